"""`python -m benchmarks [PACKAGE ...]`: tests first, then every row against its peer, as ratios measured in one run.

Prints a table and appends one JSON line (machine, versions, commit, rows) to benchmarks/results/<package>.jsonl.
Nothing is measured while a package's tests are red. `--no-tests` measures without them, prints, and stores nothing.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.rows import packages_with_rows
from memfast.foundation import provenance

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n\n")[0])
    parser.add_argument("packages", nargs="*", help=f"of {', '.join(packages_with_rows())}; default all")
    parser.add_argument("-k", dest="only", default="", help="rows whose name matches, as in pytest; stores nothing")
    parser.add_argument("--no-tests", action="store_true", help="print only, store nothing")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each row")
    arguments = parser.parse_args()
    unknown = set(arguments.packages) - set(packages_with_rows())
    if unknown:
        parser.error(f"no rows for {', '.join(sorted(unknown))}; there are {', '.join(packages_with_rows())}")
    for package in arguments.packages or packages_with_rows():
        if not arguments.no_tests and not tests_are_green(package):
            print(f"{package}: its tests are red; nothing is reported.", file=sys.stderr)
            return 1
        rows = measure(package, arguments.only, arguments.seconds)
        show(package, rows)
        if not arguments.no_tests and not arguments.only:
            store(package, rows)
    return 0


def tests_are_green(package: str) -> bool:
    """Run the package's tests; a package without tests of its own needs the ops' tests."""
    folder = ROOT / "tests" / package
    command = [sys.executable, "-m", "pytest", "-q", "-x", str(folder if folder.is_dir() else ROOT / "tests" / "ops")]
    return subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False).returncode == 0


def measure(package: str, only: str, seconds: float) -> list[dict]:
    """The rows' results, from pytest-benchmark's JSON."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark.json"
        chosen = f"{package}/ and ({only})" if only else f"{package}/"
        command = [
            sys.executable, "-m", "pytest", "benchmarks/bench_rows.py", "-q", "--benchmark-only", "-k", chosen,
            f"--benchmark-json={path}", f"--benchmark-max-time={seconds}", "--benchmark-disable-gc", "--timeout=900",
            "-o", "python_files=bench_*.py", "-p", "no:cacheprovider",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            print(done.stdout, file=sys.stderr)
            raise SystemExit(f"{package}: a row failed; nothing is reported.")
        return [entry["extra_info"] for entry in json.loads(path.read_text())["benchmarks"]]


def show(package: str, rows: list[dict]) -> None:
    """The table, one line a row."""
    print(f"\n{package}: the peer's time over ours, median of rounds that time both in turns")
    for row in rows:
        line = f"  {row['row']:34} {row['ratio']:8.2f} x  {row['against']:44}"
        if row["microseconds_goal"]:
            met = row["ours_seconds"] * 1e6 <= row["microseconds_goal"]
            line += f" {row['ours_seconds'] * 1e6:.1f} us a call, goal {row['microseconds_goal']:g} us"
        else:
            met = row["ratio"] >= row["goal"]
            line += f" goal {row['goal']:g}"
        print(line + (", reached" if met else ", missed"), flush=True)


def store(package: str, rows: list[dict]) -> None:
    """Append one line to the package's results."""
    RESULTS.mkdir(exist_ok=True)
    line = {
        "package": package,
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": provenance.commit(),
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        "rows": rows,
    }
    with open(RESULTS / f"{package}.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
