"""World sizes 1, 2 and 3 agree in every bit; a failing or killed rank ends the job, named, with its blocks kept."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from memfast.neighbors import distributed, knn

# One process runs all of a rank's jobs: importing torch costs more than the searches.
WORKER = """
import json, os, sys, time
from datetime import timedelta
import numpy as np
from memfast.neighbors import distributed, exact, knn

folder, job = sys.argv[1:]
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
ties, floats = np.load(f"{folder}/ties.npy"), np.load(f"{folder}/floats.npy")
real, calls, failure = exact.search_block, 0, None

def failing(*arguments, **options):
    global calls
    calls += 1
    if rank == 1 and calls == 3 and failure == "kill":
        os.kill(os.getpid(), 9)
    if rank == 1 and calls == 3 and failure == "raise":
        wait_for("test/rank 0 is in its fourth block")
        raise OSError("the disk of this machine is on fire")
    if rank == 0 and calls == 4 and failure == "raise":
        distributed._store().set("test/rank 0 is in its fourth block", "yes")
        wait_for(f"memfast/failed/{distributed.Ranks._open[0]}")
    return real(*arguments, **options)

def wait_for(key):
    while not distributed._store().check([key]):
        time.sleep(0.01)

def expect_failure(name, database, checkpoint=None):
    global calls, failure
    calls, failure = 0, name
    try:
        knn(ties, database, 7, memory=20_000, checkpoint=checkpoint)
    except Exception as error:
        print(f"[{name}] {type(error).__name__}: {error} (after {calls} blocks)", file=sys.stderr, flush=True)

with distributed.session(timedelta(seconds=600)) as ranks:
    assert (ranks.rank, ranks.size) == (rank, size)
    if job == "fail":
        exact.search_block = failing
        expect_failure("open", f"{folder}/missing.npy" if rank == 1 else ties)
        expect_failure("raise", f"{folder}/ties.npy", f"{folder}/shared")
        expect_failure("raise", f"{folder}/ties.npy", f"{folder}/mine-2-{rank}")
        expect_failure("kill", f"{folder}/ties.npy", f"{folder}/shared")
        sys.exit(7)
    def refused(queries, database, k=3, **options):
        try:
            knn(queries, database, k, memory=60_000, **options)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "searched all the same"

    def other(changed, array, row=0):
        array = array.copy()
        array[row] += 1 if changed else 0
        return array

    np.save(f"{folder}/own-{rank}.npy", other(rank == 1, ties, 450))
    shards = [ties[:300], ties[300:]] if rank == 1 else [ties[:200], ties[200:]]
    print(json.dumps({
        "samples": refused(other(rank == 1, ties), ties),
        "data": refused(ties, other(rank == 1, ties, 450)),
        "file": refused(ties, f"{folder}/own-{rank}.npy"),
        "inner product": refused(ties, other(rank == 1, ties, 450), metric="inner_product"),
        "missing shard": refused(ties, ties[:-9] if rank == 1 else ties),
        "other shards": refused(ties, shards),
        "order": refused(ties, ties[::-1].copy() if rank == 1 else ties),
        "dtype": refused(ties, ties.astype(np.float32) if rank == 1 else ties),
        "k": refused(ties, ties, 3 + rank),
        "no samples": refused(ties[:0] if rank == 1 else ties, ties),
    }), file=sys.stderr, flush=True)
    found = {
        "ties": knn(ties[:40], f"{folder}/ties.npy", 50, memory=60_000),
        "floats": knn(floats[:40], f"{folder}/floats.npy", 20, memory=200_000),
        "products": knn(floats[:40], f"{folder}/floats.npy", 20, memory=200_000, metric="inner_product"),
        "self": knn(ties, ties, 7, exclude_self=True, checkpoint=f"{folder}/state-{size}"),
        "again": knn(ties, ties, 7, exclude_self=True, checkpoint=f"{folder}/state-{size}"),
        "resumed": knn(ties, f"{folder}/ties.npy", 7, checkpoint=f"{folder}/shared"),
        "cosine": knn(floats[:40], floats, 3, metric="cosine"),
        "own folders": knn(ties, f"{folder}/ties.npy", 7, memory=20_000, checkpoint=f"{folder}/mine-{size}-{rank}"),
        "own folders again": knn(ties, f"{folder}/ties.npy", 7, checkpoint=f"{folder}/mine-{size}-{rank}"),
        "alone": knn(floats[:5], floats, 3, distributed=False),
    }
    arrays = {f"{name} {field}": getattr(one, field) for name, one in found.items()
              for field in ("squared_distances", "indices")}
    np.savez(f"{folder}/{size}-{rank}.npz", **arrays)
"""


def run(folder, size, job, port):
    """Start the ranks as torchrun would, and return their exit codes and errors."""
    base = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "OMP_NUM_THREADS": "1",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder), job],
            env={**base, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip
    try:
        errors = [rank.communicate(timeout=500)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return [rank.returncode for rank in ranks], errors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("ranks"), np.random.default_rng(0)
    np.save(folder / "ties.npy", draw.integers(0, 2, (500, 8), dtype=np.uint8))
    np.save(folder / "floats.npy", np.repeat(draw.normal(size=(301, 33)).astype(np.float32), 2, axis=0))
    return folder


@pytest.fixture(scope="module")
def failed(folder, free_port):
    """Exit codes and errors of two ranks, of which rank 1 fails in three ways one after the other."""
    codes, errors = run(folder, 2, "fail", free_port())
    return codes, [error.splitlines() for error in errors]


def said(lines, start):
    return next(line for line in lines if line.startswith(start))


def test_a_rank_that_cannot_open_its_data_ends_the_search_for_all(failed):
    _, (first, second) = failed
    assert "RankError: rank 1 of 2 failed: InputError: " in said(first, "[open]")
    assert "missing.npy: expected a .npy file, received no such file" in said(first, "[open]")
    assert "InputError: " in said(second, "[open]")


def test_a_rank_that_fails_half_way_is_named_and_its_blocks_are_kept(failed, folder):
    _, (first, second) = failed
    text = "RankError: rank 1 of 2 failed: OSError: the disk of this machine is on fire. Finished work is kept"
    assert text in said(first, "[raise]")
    assert "OSError: the disk of this machine is on fire" in said(second, "[raise]")
    assert (folder / "shared" / "part-00001" / "group-00000.safetensors").exists()
    # The other rank has more blocks to search: it stops after the one in which it is told.
    assert said(first, "[raise]").endswith("(after 4 blocks)")


def test_a_killed_rank_does_not_hang_the_others(failed):
    codes, (first, _) = failed
    assert codes == [7, -9]
    assert "RankError: rank 0 of 2 lost the others" in said(first, "[kill]")
    assert "Timed out" not in said(first, "[kill]")


@pytest.mark.parametrize("size", [2, 3])
def test_world_sizes_agree_in_every_bit_with_one_process(folder, failed, free_port, size):
    ties, floats = np.load(folder / "ties.npy"), np.load(folder / "floats.npy")
    expected = {
        "ties": knn(ties[:40], ties, 50),
        "floats": knn(floats[:40], floats, 20),
        "self": knn(ties, ties, 7, exclude_self=True),
        "resumed": knn(ties, ties, 7),
        "cosine": knn(floats[:40], floats, 3, metric="cosine"),
        "alone": knn(floats[:5], floats, 3),
    }
    expected["again"] = expected["self"]
    expected["own folders"] = expected["own folders again"] = expected["resumed"]
    if size == 2:
        (folder / "worker.py").write_text(WORKER)
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(folder / "worker.py")]
        command = [sys.executable, *torchrun, str(folder), "agree"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr
        errors = [done.stderr]
    else:
        codes, errors = run(folder, size, "agree", free_port())
        assert codes == [0] * size, errors
    told = [json.loads(line) for error in errors for line in error.splitlines() if line.startswith('{"samples"')]
    assert len(told) == size
    for refusals in told:
        for name, text in refusals.items():
            assert text.startswith("InputError: "), name
            assert "the same on every rank" in text, name
            assert text.count("on rank 1") == 1, name
    for rank in range(size):
        found = np.load(folder / f"{size}-{rank}.npz")
        for name, one in expected.items():
            for field in ("squared_distances", "indices"):
                assert found[f"{name} {field}"].tobytes() == getattr(one, field).tobytes(), (rank, name, field)


def test_without_a_launcher_one_process_is_the_main_one():
    with distributed.session() as ranks:
        assert (ranks.rank, ranks.size) == (0, 1)
        assert ranks.broadcast({"a": [1, None]}) == {"a": [1, None]}
    assert distributed.is_main()
    assert not distributed.launched()
