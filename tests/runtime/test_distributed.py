"""A failure on one rank ends all of them with its error, wherever the others are; collectives keep every bit."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from memfast.foundation.errors import InputError
from memfast.objective.changing import gathered
from memfast.runtime.distributed import RankError, Ranks

WORKER = """
import os, sys, time
from datetime import timedelta
import numpy as np
import torch
import torch.distributed as dist
from memfast.objective.changing import gathered
from memfast.runtime import distributed
from memfast.runtime.files import write_bytes

scenario, folder = sys.argv[1:]
distributed.GRACE_SECONDS = 2.0
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])

def step():
    dist.all_reduce(torch.ones(4))

def fail():
    if scenario == "kill":
        os.kill(os.getpid(), 9)
    if scenario == "memory":
        raise MemoryError("no room for 7 bytes")
    if scenario == "hook":
        raise ZeroDivisionError("a hook of the user")
    if scenario == "disk":
        write_bytes(f"{folder}/" + "x" * 300, b"no file system takes this name")
    raise OSError("the disk of this machine is on fire")

def training():
    for number in range(5):
        step()
        if rank == 1 and number == 2:
            fail()

with distributed.session(timedelta(seconds=600)) as ranks:
    if scenario == "collectives":
        ids = torch.arange(5 + rank) * size + rank + 2**55
        steps, losses = gathered(torch.arange(5 + rank), torch.arange(5 + rank) + 100.0 * rank, ids)
        lists = ranks.concatenate(np.arange(rank * 2, dtype=np.int64).reshape(rank, 2))
        flags = ranks.gather(np.array([rank == 1, True]))
        np.savez(f"{folder}/{rank}.npz", steps=steps, losses=losses, lists=lists, flags=flags,
                 total=ranks.total(rank + 2**60), any=ranks.any(rank == 1),
                 values=str(ranks.gather_values({"rank": rank})))
        sys.exit(0)
    started = time.monotonic()
    try:
        with ranks.fail_together("the run"):
            if scenario == "nested":
                with ranks.fail_together("inside"):
                    if rank == 1:
                        raise OSError("inside")
            elif scenario == "busy":
                if rank == 1:
                    fail()
                time.sleep(distributed.GRACE_SECONDS + 3)
            else:
                training()
    except Exception as error:
        print(f"{type(error).__name__}: {error} [{time.monotonic() - started:.1f} s]", file=sys.stderr, flush=True)
        if scenario == "nested":
            with ranks.fail_together("afterwards"):
                ranks.barrier()
            print("afterwards: fine", file=sys.stderr)
        sys.exit(3)
"""


def run(scenario, folder, size, port):
    """Start the ranks as a launcher would: exit codes, errors and seconds."""
    environment = {
        **os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    started = time.monotonic()
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, scenario, str(folder)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip
    try:
        errors = [rank.communicate(timeout=200)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return [rank.returncode for rank in ranks], errors, time.monotonic() - started


@pytest.mark.parametrize(
    ("scenario", "error"),
    [
        ("error", "OSError: the disk of this machine is on fire"),
        ("memory", "MemoryError: no room for 7 bytes"),
        ("hook", "ZeroDivisionError: a hook of the user"),
        ("disk", "OutputError: cannot write"),
    ],
)
def test_an_error_on_one_rank_releases_the_others_from_their_collective(scenario, error, tmp_path, free_port):
    codes, (first, second), _ = run(scenario, tmp_path, 2, free_port())
    assert codes == [3, 3]
    assert error in second
    assert f"RankError: rank 1 of 2 failed: {error}" in first
    assert float(first.rsplit("[", 1)[1].split()[0]) < 30


def test_three_ranks_end_with_the_error_of_one(tmp_path, free_port):
    codes, (first, _, third), _ = run("hook", tmp_path, 3, free_port())
    assert codes == [3, 3, 3]
    for text in (first, third):
        assert "RankError: rank 1 of 3 failed: ZeroDivisionError: a hook of the user" in text


def test_a_killed_rank_ends_the_others_within_seconds(tmp_path, free_port):
    codes, (first, _), _ = run("kill", tmp_path, 2, free_port())
    assert codes == [3, -9]
    assert "RankError: rank 0 of 2 lost the others" in first
    assert float(first.rsplit("[", 1)[1].split()[0]) < 30


def test_a_rank_that_is_busy_learns_of_the_failure_when_it_is_done(tmp_path, free_port):
    codes, (first, second), _ = run("busy", tmp_path, 2, free_port())
    assert codes == [3, 3]
    assert "RankError: rank 1 of 2 failed: OSError: the disk of this machine is on fire" in first
    assert "OSError: the disk of this machine is on fire" in second


def test_a_handled_failure_leaves_the_group_usable(tmp_path, free_port):
    codes, texts, _ = run("nested", tmp_path, 2, free_port())
    assert codes == [3, 3]
    assert all("afterwards: fine" in text for text in texts)
    assert "RankError: inside: rank 1 of 2 failed: OSError: inside" in texts[0]


def test_collectives_keep_56_bit_ids_lengths_and_types(tmp_path, free_port):
    codes, errors, _ = run("collectives", tmp_path, 3, free_port())
    assert codes == [0, 0, 0], errors
    found = [np.load(tmp_path / f"{rank}.npz") for rank in range(3)]
    # Ids 2^55 + number * 3 + rank: neighbours that float64 cannot tell apart.
    expected = sorted((2**55 + number * 3 + rank, number, number + 100.0 * rank) for rank in range(3)
                      for number in range(5 + rank))  # fmt: skip
    for one in found:
        assert one["steps"].tolist() == [number for _, number, _ in expected]
        assert one["losses"].tolist() == [loss for _, _, loss in expected]
        assert one["lists"].tolist() == [[0, 1], [0, 1], [2, 3]]
        assert one["flags"].tolist() == [[False, True], [True, True], [False, True]]
        assert (int(one["total"]), bool(one["any"])) == (3 + 3 * 2**60, True)
        assert str(one["values"]) == "[{'rank': 0}, {'rank': 1}, {'rank': 2}]"


def test_one_process_needs_no_group():
    import torch

    ranks = Ranks.current()
    assert (ranks.rank, ranks.size, ranks.is_main) == (0, 1, True)
    assert ranks.gather(np.array([1, 2])).tolist() == [[1, 2]]
    assert ranks.concatenate(np.zeros((0, 3))).shape == (0, 3)
    assert ranks.gather_values({"a": 1}) == [{"a": 1}]
    with pytest.raises(ValueError, match="as it is"), ranks.fail_together("alone"):
        raise ValueError("as it is")
    ids = torch.tensor([2**53 + 1, 2**53, 5])
    steps, losses = gathered(torch.tensor([1, 2, 3]), torch.tensor([0.1, 0.2, 0.3]), ids)
    assert steps.tolist() == [3, 2, 1]
    assert losses == pytest.approx([0.3, 0.2, 0.1])


def test_a_launchers_variable_that_is_no_number_is_named(monkeypatch):
    from memfast.runtime import distributed

    for name, value in (("RANK", "0"), ("WORLD_SIZE", "x"), ("MASTER_ADDR", "127.0.0.1")):
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=r"WORLD_SIZE: expected a whole number.*received 'x'"):
        distributed.join()


def test_a_rank_whose_launcher_was_killed_ends(tmp_path):
    """The launcher ends without a word; its rank must not live on."""
    child = (
        "import os, threading, time\nfrom memfast.runtime import distributed\n"
        "distributed._PARENT_SECONDS = 0.2\n"
        "threading.Thread(target=distributed._end_with_parent, args=(os.getppid(),), daemon=True).start()\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    )
    launcher = f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(60)\n"
    process = subprocess.Popen([sys.executable, "-c", launcher], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = int((tmp_path / "pid").read_text())
    process.kill()
    process.wait()
    while _alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_group_that_was_given_up_is_refused(monkeypatch):
    monkeypatch.setattr(Ranks, "_aborted", "OSError: disk")
    with pytest.raises(RankError, match="given up after a failure: OSError: disk"):
        Ranks.current()


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
