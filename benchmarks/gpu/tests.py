"""Runs every test that needs a GPU."""

import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2] / "tests"


def command() -> list[str]:
    """What runs them: the files that hold GPU tests alone, because others, and the suite's conftest.py, import packages
    that may be missing here."""
    files = sorted(str(path) for path in TESTS.rglob("test_*.py") if "pytest.mark.gpu" in path.read_text())
    options = ["-m", "gpu", "-o", "addopts=", "-q", "-rs", "-p", "no:cacheprovider", "--tb=short", "--maxfail=20"]
    return [sys.executable, "-m", "pytest", "--noconftest", *options, *files]


def run(record) -> int:
    done = subprocess.run(command(), capture_output=True, text=True)
    print(done.stdout, done.stderr, flush=True)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", done.stdout)}
    failures = re.findall(r"^(?:FAILED|ERROR) (.*)$", done.stdout, re.MULTILINE)[:20]
    record.note(**counts, failures=failures)
    if done.returncode or not counts.get("passed"):
        record.note(failed=f"pytest ended with {done.returncode}")
        return 1
    return 0
