"""`python -m benchmarks.neighbors [CASE ...]`: exact search against its peers, as ratios within one run.

Every round times each contender once, in turn; a ratio is the median over the rounds of (peer's time / ours).
The answers are compared before anything is timed. The machine's peak is measured beside them by a register loop.
A run of all cases and peers appends one JSON line (machine, versions, commit) to benchmarks/results/neighbors.jsonl.
"""

import argparse
import multiprocessing
import os
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from benchmarks.__main__ import store
from benchmarks.neighbors.cases import CASES, run_case


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbors", description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--peers", nargs="*", help="only these peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    unknown = set(arguments.cases) - set(CASES)
    if unknown:
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    peaks = measure_peaks(arguments.threads)
    print("register loops, giga-operations per second:", peaks, flush=True)
    rows: list[dict] = []
    for name in arguments.cases:
        case = CASES[name]
        if arguments.peers is not None:
            case = replace(case, peers=tuple(peer for peer in case.peers if peer in arguments.peers))
        # A process for each: the peers read what limits them to an instruction set when they are loaded.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            rows += pool.submit(run_case, name, case, arguments.rounds, arguments.threads, peaks).result()
    if set(arguments.cases) == set(CASES) and arguments.peers is None:
        store("neighbors", rows)


def measure_peaks(threads: int) -> dict[str, float]:
    """Giga-operations per second of each kind of multiply-add, on all threads; empty where it cannot be built."""
    source = Path(__file__).with_name("peak.cpp")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "peak"
        try:
            subprocess.run(["c++", "-O2", "-pthread", source, "-o", program], check=True, capture_output=True)
            text = subprocess.run([program, str(threads)], check=True, capture_output=True, text=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return {}
    return {name: float(rate) for name, rate in (line.split() for line in text.splitlines())}


if __name__ == "__main__":
    main()
