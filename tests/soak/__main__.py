"""The pieces of ``make soak``: ``python -m tests.soak kills --cases 300 --seed 1``."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.soak.harness import failing_files, fuzzing, kills


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("piece", choices=["kills", "files", "fuzz"])
    parser.add_argument("--every", type=int, default=1, help="files: try every n-th operation.")
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="The number of the first case.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", nargs="*", help="Commands, or kinds of files; default: all.")
    asked = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="memfast-soak-"))
    if asked.piece == "kills":
        counts = kills.run(top, cases=asked.cases, seed=asked.seed, verbs=asked.verbs, first=asked.first)
    elif asked.piece == "fuzz":
        counts = fuzzing.run(top, cases=asked.cases, seed=asked.seed, kinds=asked.verbs, first=asked.first)
    else:
        counts = failing_files.run(top, every=asked.every, seed=asked.seed, verbs=asked.verbs)
    return int(any("wrong" in name for name in counts))


if __name__ == "__main__":
    sys.exit(main())
