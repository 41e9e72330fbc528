"""A search killed at any moment ends with the same bits; changed inputs and other searches are refused."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from memfast.foundation.errors import CheckpointError, InputError, OutputError
from memfast.neighbors import checkpoint as module
from memfast.neighbors import exact, knn
from memfast.runtime import files

MEMORY = 40_000
KILLER = """
import os, random, signal, sys, time
import numpy as np
from memfast import ops
from memfast.neighbors import checkpoint, knn

folder, data, queries, seed, kind = sys.argv[1:6]
checkpoint.SAVE_SHARE = float("inf")
real, calls, parent = ops.nearest, 0, os.getpid()

def told(*arguments, **options):
    # The parent hears of every block; in the one after the last it waits for, the child stands still.
    global calls
    calls += 1
    while calls > last:
        time.sleep(0.05)
        if os.getppid() != parent:
            os._exit(1)
    os.write(pipe[1], b".")
    return real(*arguments, **options)

ops.nearest = told
draw = random.Random(int(seed))
for attempt in range(200):
    last, pipe = draw.randint(1, 3 if kind == "iterator" else 5), os.pipe()  # an iterator comes in seven blocks only
    child = os.fork()
    if child == 0:
        os.close(pipe[0])
        database = iter(np.array_split(np.load(data), 7)) if kind == "iterator" else data
        memory = 40_000 if attempt % 2 else 60_000
        found = knn(queries, database, 5, memory=100_000 if kind == "iterator" else memory, checkpoint=folder)
        np.savez(folder + ".npz", d=found.squared_distances, i=found.indices)
        os._exit(0)
    os.close(pipe[1])
    begun = 0
    while begun < last and os.read(pipe[0], 1):
        begun += 1
    os.close(pipe[0])
    if begun == last:
        time.sleep(draw.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        continue
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"the child ended with {status}")
    print(attempt)
    sys.exit(0)
sys.exit("never finished")
"""


@pytest.fixture
def sets(tmp_path):
    draw = np.random.default_rng(0)
    database = draw.integers(0, 6, (900, 40), dtype=np.uint8)
    np.save(tmp_path / "database.npy", database)
    np.save(tmp_path / "queries.npy", draw.integers(0, 6, (120, 40), dtype=np.uint8))
    return tmp_path / "queries.npy", tmp_path / "database.npy"


@pytest.fixture
def every_unit_saved(monkeypatch):
    monkeypatch.setattr(module, "SAVE_SHARE", float("inf"))


def stop_after(monkeypatch, calls, error=KeyboardInterrupt):
    """Let the search fail in its kernel after so many blocks."""
    real, left = exact.search_block, [calls]

    def block(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise error("stopped")
        return real(*arguments, **options)

    monkeypatch.setattr(exact, "search_block", block)


def count_blocks(monkeypatch):
    real, calls = exact.search_block, []

    def block(*arguments, **options):
        calls.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(exact, "search_block", block)
    return calls


@pytest.mark.parametrize(("seed", "kind"), [(1, "file"), (2, "iterator")])
def test_kill_9_at_random_moments_changes_no_bit(sets, tmp_path, seed, kind):
    folder = tmp_path / "state"
    arguments = [str(one) for one in (folder, sets[1], sets[0], seed, kind)]
    done = subprocess.run([sys.executable, "-c", KILLER, *arguments], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 2  # kills
    expected = knn(*sets, 5)
    found = np.load(f"{folder}.npz")
    assert found["d"].tobytes() == expected.squared_distances.tobytes()
    assert found["i"].tobytes() == expected.indices.tobytes()


def test_it_continues_where_it_stopped(sets, tmp_path, monkeypatch, every_unit_saved):
    whole = count_blocks(monkeypatch)
    expected = knn(*sets, 5, memory=MEMORY)
    blocks = len(whole)
    assert blocks > 20
    with monkeypatch.context() as patch:
        stop_after(patch, blocks - 4)
        with pytest.raises(KeyboardInterrupt):
            knn(*sets, 5, memory=MEMORY, checkpoint=tmp_path / "state")
    rest = count_blocks(monkeypatch)
    found = knn(*sets, 5, memory=2 * MEMORY, checkpoint=tmp_path / "state")
    assert len(rest) == 4
    assert found.indices.tobytes() == expected.indices.tobytes()
    assert found.fallbacks == expected.fallbacks


def test_a_finished_search_returns_without_searching(sets, tmp_path, monkeypatch):
    first = knn(*sets, 5, checkpoint=tmp_path / "state")
    calls = count_blocks(monkeypatch)
    again = knn(*sets, 5, checkpoint=tmp_path / "state")
    from_memory = knn(np.load(sets[0]), np.load(sets[1]), 5, checkpoint=tmp_path / "state")
    assert not calls
    for one in (again, from_memory):
        assert one.squared_distances.tobytes() == first.squared_distances.tobytes()
        assert one.exactness == "exact"


@pytest.mark.parametrize("finished", [False, True], ids=["interrupted", "finished"])
@pytest.mark.parametrize("row", [0, 890])
def test_a_database_that_changed_is_refused(sets, tmp_path, monkeypatch, every_unit_saved, finished, row):
    with monkeypatch.context() as patch:
        if not finished:
            # Past the first group of queries, so that every row has been seen.
            stop_after(patch, 21)
        try:
            knn(*sets, 5, memory=MEMORY, checkpoint=tmp_path / "state")
        except KeyboardInterrupt:
            assert not finished
    before = {path: path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()}
    changed = np.load(sets[1])
    changed[row, 3] += 1
    np.save(sets[1], changed)
    with pytest.raises(
        CheckpointError, match=r"rows \d+ to \d+ \(row \d+ of .*database.npy and following\) have other"
    ):
        knn(*sets, 5, memory=MEMORY, checkpoint=tmp_path / "state")
    assert (
        before.items()
        <= {path: path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()}.items()
    )


def test_a_truncated_shard_is_refused(tmp_path, monkeypatch, every_unit_saved):
    data = np.random.default_rng(0).integers(0, 9, (300, 40), dtype=np.uint8)
    (tmp_path / "shards").mkdir()
    for number in range(3):
        np.save(tmp_path / "shards" / f"{number}.npy", data[number * 100 : number * 100 + 100])
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            knn(data[:9], tmp_path / "shards", 5, memory=MEMORY, checkpoint=tmp_path / "state")
    with open(tmp_path / "shards" / "1.npy", "rb+") as file:
        file.truncate(2000)
    with pytest.raises(InputError, match=r"1\.npy: .*The file is truncated"):
        knn(data[:9], tmp_path / "shards", 5, memory=MEMORY, checkpoint=tmp_path / "state")
    np.save(tmp_path / "shards" / "1.npy", data[100:170])
    with pytest.raises(CheckpointError, match=r"rows of the database was \['1.npy', 100\], is now \['1.npy', 70\]"):
        knn(data[:9], tmp_path / "shards", 5, memory=MEMORY, checkpoint=tmp_path / "state")
    np.save(tmp_path / "shards" / "1.npy", data[100:200])
    found = knn(data[:9], tmp_path / "shards", 5, memory=MEMORY, checkpoint=tmp_path / "state")
    np.testing.assert_array_equal(found.indices, knn(data[:9], data, 5).indices)


def test_another_search_is_refused(sets, tmp_path):
    knn(*sets, 5, checkpoint=tmp_path / "state")
    with pytest.raises(CheckpointError, match=r"k was 5, is now 6\. Nothing was merged"):
        knn(*sets, 6, checkpoint=tmp_path / "state")
    with pytest.raises(CheckpointError, match="metric was euclidean, is now cosine"):
        knn(*sets, 5, metric="cosine", checkpoint=tmp_path / "state")
    queries = np.load(sets[0])
    queries[0, 0] ^= 1
    with pytest.raises(CheckpointError, match="content of the queries was"):
        knn(queries, sets[1], 5, checkpoint=tmp_path / "state")


def test_a_folder_with_other_things_is_refused(sets, tmp_path):
    with pytest.raises(OutputError, match="received one that holds other things"):
        knn(*sets, 5, checkpoint=tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "manifest.json").write_text('{"format"')
    with pytest.raises(CheckpointError, match="not a readable manifest"):
        knn(*sets, 5, checkpoint=tmp_path / "state")
    (tmp_path / "state" / "manifest.json").write_text(json.dumps({"parameters": {"format": 0}, "plan": {}}))
    with pytest.raises(CheckpointError, match="format was 0, is now 2"):
        knn(*sets, 5, checkpoint=tmp_path / "state")


def test_a_damaged_state_file_is_named(sets, tmp_path, monkeypatch, every_unit_saved):
    stop_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        knn(*sets, 5, memory=MEMORY, checkpoint=tmp_path / "state")
    path = tmp_path / "state" / "part-00000" / "progress.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"progress.safetensors: damaged .* Remove the folder"):
        knn(*sets, 5, memory=MEMORY, checkpoint=tmp_path / "state")


def test_saving_keeps_to_its_share_of_the_time(tmp_path, monkeypatch):
    """A state offered every 2 ms, whose writing takes 5 ms: writing stays under 2 % of the time."""
    now, writing = [0.0], [0.0]

    def write(*arguments):
        now[0] += 0.005
        writing[0] += 0.005

    monkeypatch.setattr(module, "_write", write)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    checkpoint = SimpleNamespace(folder=tmp_path / "state", search="")
    store = module.PartStore(checkpoint, 0, 0, 1, None, 3)
    lists = exact.RunningTopK(2, 3, np.dtype(np.int64))
    while now[0] < 2.5:
        now[0] += 0.002
        store.note(0, 1, lists)
    assert 0 < writing[0] < 0.02 * 2.5


@pytest.fixture
def states(sets, tmp_path, monkeypatch, every_unit_saved):
    """A search interrupted half-way and one that is finished; several groups of queries."""
    with monkeypatch.context() as patch:
        stop_after(patch, 18)
        with pytest.raises(KeyboardInterrupt):
            knn(*sets, 5, memory=MEMORY, checkpoint=tmp_path / "interrupted")
    knn(*sets, 5, memory=MEMORY, checkpoint=tmp_path / "finished")
    return [tmp_path / "interrupted", tmp_path / "finished"]


def test_no_damaged_byte_of_any_file_gives_another_result(sets, states, tmp_path):
    """Every kind of file, a bit flipped, bytes cut or doubled at drawn places, and every field of the manifest."""
    expected, draw, refused = knn(*sets, 5), np.random.default_rng(0), 0
    names = set()
    for state in states:
        for path in sorted(one for one in state.rglob("*") if one.is_file()):
            whole = path.read_bytes()
            names.add(path.name)
            places = draw.integers(0, len(whole), 40 if path.name == "manifest.json" else 12)
            broken = [whole[:at] + bytes([whole[at] ^ (1 << int(draw.integers(8)))]) + whole[at + 1 :] for at in places]
            for content in [*broken, whole[: int(places[0])], whole + whole[-8:], b""]:
                path.write_bytes(content)
                refused += refuses_or_finds(sets, copy_of(state, tmp_path), expected)
            path.write_bytes(whole)
    assert {"manifest.json", "result.safetensors", "progress.safetensors", "group-00000.safetensors"} <= names
    assert refused > 100


def refuses_or_finds(sets, state, expected):
    try:
        found = knn(*sets, 5, memory=MEMORY, checkpoint=state)
    except CheckpointError:
        return True
    assert found == expected
    return False


def copy_of(state, tmp_path):
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
    return shutil.copytree(state, tmp_path / "copy")


@pytest.mark.parametrize(
    "change",
    [
        {"parts": [[0, 300]]}, {"parts": [[0, 300], [400, 900]]}, {"parts": [[0, 500], [400, 900]]},
        {"parts": [[0, 1000], [1000, 900]]}, {"parts": []}, {"parts": [[0.0, 900]]}, {"parts": [[0, 900, 3]]},
        {"query_rows": 0}, {"unit_rows": -1}, {"unit_rows": "9"}, {"unit_rows": True}, {"more": 1}, {"parts": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_plan_that_does_not_cover_the_database_is_refused_even_with_a_right_checksum(sets, states, change):
    path = states[1] / "manifest.json"
    stored = json.loads(path.read_text())
    stored["plan"].update(change)
    stored["seal"] = files.EMPTY_SEAL
    path.write_bytes(files.seal(json.dumps(stored).encode()))
    with pytest.raises(CheckpointError):
        knn(*sets, 5, memory=MEMORY, checkpoint=states[1])


def test_files_of_another_search_or_group_are_refused(sets, states, tmp_path):
    knn(*sets, 4, memory=MEMORY, checkpoint=tmp_path / "other")
    shutil.copy(tmp_path / "other" / "result.safetensors", states[1])
    with pytest.raises(CheckpointError, match="belongs to another search"):
        knn(*sets, 5, memory=MEMORY, checkpoint=states[1])
    groups = sorted(states[0].rglob("group-*.safetensors"))
    shutil.copy(groups[0], groups[1] if len(groups) > 1 else groups[0].with_name("group-00001.safetensors"))
    with pytest.raises(CheckpointError, match="the file of another group"):
        knn(*sets, 5, memory=MEMORY, checkpoint=states[0])
