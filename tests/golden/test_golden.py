"""The same seeds give the same bits and figures as before memfast's inside was rebuilt."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "values.json").read_text())
# A value whose place changed on purpose: the start of its old path -> that of its new one, each with its reason.
MOVED: dict[str, str] = {}
_SHARES = ("precision", "recall", "coverage", "auth_pct", "neighbor_ratio_below")
# A value that changed on purpose: the start of its path -> the reason.
CHANGED: dict[str, str] = {
    "detector_scores.roc.1": "DeLong's interval of the AUC is taken on the logit scale",
    "detector_scores.roc.2": "DeLong's interval of the AUC is taken on the logit scale",
    **{
        f"evaluations.{sets}.{name}.interval": "shares have Wilson's interval instead of a bootstrap"
        for sets in ("pixels", "given", "plain")
        for name in _SHARES
    },
    **{
        f"evaluations.{sets}.jensen_shannon_components{more}.high": "sqrt(ln 2) in full precision"
        for sets in ("pixels", "given", "plain")
        for more in ("", "_2")
    },
    **{
        f"evaluations.{sets}.generalization_gap.floor": "held-out data now give the gap its floor"
        for sets in ("pixels", "given")
    },
}
CHANGED |= {
    path.removesuffix(".1"): "the bootstrap of a share of 0 or 1 has the width of the exact interval"
    for path, value in GOLDEN["values"].items()
    if path.endswith(".bootstrap.1") and value == GOLDEN["values"][path.removesuffix("1") + "0"]
}
SAME_MACHINE, OTHER_MACHINE = 1e-12, 1e-5
SECTIONS = sorted({path.partition(".")[0] for path in GOLDEN["values"]})


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Computed in a process of its own: one thread, a cache of its own, no generator that another test has moved."""
    folder = tmp_path_factory.mktemp("golden")
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "MEMFAST_CACHE": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip
    environment.pop("MEMFAST_BACKEND", None)
    target = folder / "values.json"
    done = subprocess.run(
        [sys.executable, str(HERE / "compute.py"), str(target)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(target.read_text())


@pytest.mark.parametrize("section", SECTIONS)
def test_the_same_seeds_give_the_same_values(found, section):
    same_machine = found["machine"] == GOLDEN["machine"]
    wrong = []
    for path, expected in GOLDEN["values"].items():
        if path.partition(".")[0] != section or any(path.startswith(start) for start in CHANGED):
            continue
        place = moved(path)
        if place not in found["values"]:
            wrong.append(f"{path}: expected {expected}, it is gone")
        elif not equal(found["values"][place], expected, same_machine=same_machine):
            wrong.append(f"{path}: expected {expected}, received {found['values'][place]}")
    assert not wrong, f"{len(wrong)} values changed:\n" + "\n".join(wrong[:40])


def test_every_adaptation_is_of_a_value_that_exists():
    for start in (*MOVED, *CHANGED):
        assert any(path.startswith(start) for path in GOLDEN["values"]), start


@pytest.mark.parametrize(
    ("received", "expected", "verdict"),
    [
        (1.0, 1.0 + 1e-14, True), (1.0, 1.0 + 1e-9, False), (1, 1.0, True), (True, 1, True), (None, 0, False),
        ("a", "b", False), ({"sha256": "a"}, {"sha256": "b"}, False), ({"sha256": "a"}, {"sha256": "a"}, True),
        (math.nan, math.nan, True), (1.0, None, False),
    ],
)  # fmt: skip
def test_the_comparison_tells_values_apart(received, expected, verdict):
    assert equal(received, expected, same_machine=True) is verdict


def moved(path):
    for old, new in MOVED.items():
        if path.startswith(old):
            return new + path.removeprefix(old)
    return path


def equal(received, expected, *, same_machine):
    if isinstance(expected, dict):
        everywhere = expected.get("everywhere", False)
        return received["sha256"] == expected["sha256"] if same_machine or everywhere else True
    numbers = (int, float)
    if isinstance(received, numbers) and isinstance(expected, numbers):
        if math.isnan(expected):
            return math.isnan(received)
        tolerance = SAME_MACHINE if same_machine else OTHER_MACHINE
        return math.isclose(received, expected, rel_tol=tolerance, abs_tol=tolerance)
    return received == expected
