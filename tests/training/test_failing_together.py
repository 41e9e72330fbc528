"""An error on one rank ends every rank with that error within seconds, also while the others wait inside DDP."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from memfast.models import load_run
from tests.training.failing_process import HalfUsed

SCRIPT = Path(__file__).with_name("failing_process.py")
CASES = ("hook-1", "hook-0", "killed", "unused")


@pytest.fixture(scope="module")
def endings(tmp_path_factory, free_port):
    """The folder, and (exit code, standard output, standard error) of both ranks of every case."""
    folder = tmp_path_factory.mktemp("failing")
    started = {}
    for case in CASES:
        common = {
            "OMP_NUM_THREADS": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "WORLD_SIZE": "2",
        }
        started[case] = [
            subprocess.Popen(
                [sys.executable, str(SCRIPT), case, str(folder / case)],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in (0, 1)
        ]  # fmt: skip
    try:
        outputs = {case: [one.communicate(timeout=300) for one in ranks] for case, ranks in started.items()}
        return folder, {
            case: [(one.returncode, *text) for one, text in zip(ranks, outputs[case], strict=True)]
            for case, ranks in started.items()
        }
    finally:
        for ranks in started.values():
            for one in ranks:
                one.kill()


@pytest.mark.parametrize(
    ("case", "failed", "error"),
    [
        ("hook-1", 1, "ValueError: a user's own mistake"),
        ("hook-0", 0, "OSError: [Errno 28] No space left on device"),
    ],
)
def test_an_error_on_one_rank_is_the_error_of_both(endings, case, failed, error):
    folder, endings = endings
    own, other = endings[case][failed], endings[case][1 - failed]
    assert (own[0], other[0]) == (1, 1), own[2][-2000:] + other[2][-2000:]
    assert error.partition(": ")[2] in own[1]
    assert "RankError: " in other[1]
    assert f"rank {failed} of 2 failed: {error}" in other[1]
    assert "Traceback" not in other[2]
    waited = float(other[1].split()[0]) - float((folder / f"{case}-failed").read_text())
    assert 0 <= waited < 30


def test_a_killed_rank_is_named_by_a_clear_error(endings):
    survivor, killed = endings[1]["killed"]
    assert killed[0] == -signal.SIGKILL
    assert survivor[0] == 1, survivor[2][-2000:]
    assert "RankError: " in survivor[1]
    assert "rank 0 of 2 lost the others: one of them ended or does not answer" in survivor[1]
    assert "Traceback" not in survivor[2]


def test_unused_parameters_are_an_error_that_says_what_to_do(endings):
    folder, endings = endings
    assert load_run(folder / "unused-allowed", model=HalfUsed()).step == 4
    for code, printed, _ in endings["unused"]:
        assert code == 1
        assert "find_unused_parameters=True" in printed
