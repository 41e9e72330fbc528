"""The kept index gives the numbers of brute force, bit for bit, whatever the data, through kills and damage."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import memfast
from memfast.cli import main
from memfast.data import open_source
from memfast.data.source import is_source
from memfast.data.subset import Subset
from memfast.foundation.errors import CheckpointError, InputError, OutputError
from memfast.neighbors import RangeSearchResult, duplicates, pruned, range_search
from memfast.neighbors.pruned import PrunedSearch
from memfast.neighbors.sketch import Transform, components_for
from memfast.ops.reference.nearest import squared_distances

DRAW = np.random.default_rng(0)
# Thousands once in a while: MEMFAST_TEST_CASES=5000.
CASES = int(os.environ.get("MEMFAST_TEST_CASES", "100"))


class Items(SimpleNamespace):
    def __len__(self):
        return int(self.starts[-1])


class InMemory(PrunedSearch):
    """A search whose shards lie in memory: thousands of small cases need no files."""

    def __init__(self, rows, components, shard_items, kept=None):
        cuts = range(0, len(rows), shard_items)
        shards = [{"items": len(rows[first : first + shard_items]), "name": str(first)} for first in cuts]
        self.items = Items(
            shards=shards, starts=np.cumsum([0, *(one["items"] for one in shards)]), dtype=rows.dtype, manifest={},
            shard_rows=lambda number: rows[number * shard_items : (number + 1) * shard_items],
            block=lambda start, stop: rows[start:stop],
        )  # fmt: skip
        self.work, self.kept, self._place = pruned.Work(), None, None
        if kept is not None:
            self.kept = kept
            PrunedSearch.__post_init__(self)
        self.transform = Transform.fit(rows[: pruned.QUERIES_AT_ONCE], components)
        self._blocks = self._read_block
        self._sketches = lambda number: self.transform.sketch(self.items.shard_rows(number))


def brute(queries, rows, k, exclude_self=False):
    if queries.dtype == rows.dtype == np.uint8:
        wide = queries.astype(np.int64), rows.astype(np.int64)
        table = ((wide[0][:, None] - wide[1][None]) ** 2).sum(axis=2)
    else:
        table = squared_distances(queries.astype(np.float64)[:, None], rows.astype(np.float64)[None])
    order = np.argsort(table, axis=1, kind="stable")
    if exclude_self:
        order = np.stack([row[row != number] for number, row in enumerate(order)])
    return np.take_along_axis(table, order[:, :k], 1), order[:, :k], table


def hard_rows(kind, count, numbers, seed):
    """Data on which a bound could fail: near-copies, ties, one value, all on a sphere, outliers."""
    draw = np.random.default_rng(seed)
    if kind == "sphere":
        rows = draw.normal(size=(count, numbers))
        return 1e3 * rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-9)
    if kind == "near copies":
        base = draw.integers(0, 250, (max(1, count // 6), numbers))
        rows = base[draw.integers(0, len(base), count)]
        rows[np.arange(count), draw.integers(0, numbers, count)] += draw.integers(0, 3, count)
        return rows
    if kind == "ties":
        return draw.integers(0, 2, (count, numbers))
    if kind == "constant":
        return np.full((count, numbers), draw.integers(0, 256))
    if kind == "line":
        return np.outer(draw.integers(0, 255, count), np.ones(numbers, int))
    if kind == "outliers":
        rows = draw.integers(100, 110, (count, numbers))
        rows[draw.integers(0, count)] = 255 * draw.integers(0, 2, numbers)
        return rows
    return draw.integers(0, 256, (count, numbers))


KINDS = ("random", "sphere", "near copies", "ties", "constant", "line", "outliers")
DTYPES = {"uint8": 1.0, "float32": 1.0, "float32 tiny": 1e-20, "float64 huge": 1e100, "float16": 0.1, "float64": 1e-3}


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_pruned_search_equals_brute_force(data):
    kind, dtype = data.draw(st.sampled_from(KINDS)), data.draw(st.sampled_from(list(DTYPES)))
    count, numbers = data.draw(st.integers(1, 70)), data.draw(st.sampled_from([1, 2, 3, 7, 8, 31, 64, 200]))
    seed = data.draw(st.integers(0, 10_000))
    values = hard_rows(kind, count + 24, numbers, seed)
    if dtype == "uint8":
        values = np.clip(np.abs(values), 0, 255).astype(np.uint8)
    else:
        values = (values * DTYPES[dtype]).astype(dtype.split()[0])
    rows, queries = values[:count], values[count:]
    queries = np.concatenate([queries, rows[:6]])[: data.draw(st.sampled_from([1, 8, 9, 30]))]
    k, own = data.draw(st.integers(1, count)), data.draw(st.booleans())
    kept = np.arange(count)
    if data.draw(st.booleans()):
        kept = np.unique(data.draw(st.lists(st.integers(0, count - 1), min_size=1)))
        k = min(k, len(kept))
    search = InMemory(rows, data.draw(st.integers(1, numbers)), data.draw(st.sampled_from([1, 5, 16, 100])), kept)
    rows, count = rows[kept], len(kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruned, "MOST_SURVIVORS", data.draw(st.sampled_from([-1.0, 0.3, 2.0])))
        patch.setattr(pruned, "PAIRS_AT_ONCE", data.draw(st.sampled_from([16, 300, 1 << 22])))
        patch.setattr(pruned, "QUERIES_AT_ONCE", data.draw(st.sampled_from([5, 2048])))
        if own and count > 1:
            k, queries = min(k, count - 1), rows
        own = own and count > 1
        found = search.nearest(queries, k, exclude_self=own)
        distances, indices, table = brute(queries, rows, k, own)
        np.testing.assert_array_equal(found.squared_distances, distances)
        np.testing.assert_array_equal(found.indices, indices)
        limit = float(np.sort(table.reshape(-1))[data.draw(st.integers(0, table.size - 1))])
        near = list(search.within(queries, limit))
        pairs = sorted((q, i, d) for one in near for q, i, d in zip(*one, strict=True))
        assert pairs == [(q, i, table[q, i]) for q, i in np.argwhere(table <= limit)]


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(KINDS), numbers=st.sampled_from([1, 5, 48, 300]), seed=st.integers(0, 10_000),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]), directions=st.sampled_from(["fitted", "any", "skewed"]),
)  # fmt: skip
def test_the_bound_is_never_above_the_distance(kind, numbers, seed, scale, directions):
    """Distances in extended precision against the bound, for good, useless and not quite orthonormal directions."""
    values = hard_rows(kind, 40, numbers, seed) * scale
    components = min(numbers, 9)
    transform = Transform.fit(values if directions == "fitted" else DRAW.normal(size=(50, numbers)) * scale, components)
    if directions == "skewed":
        skewed = transform.components + 1e-4 * DRAW.normal(size=transform.components.shape)
        gram = skewed @ skewed.T - np.eye(components)
        transform = Transform(
            transform.mean, skewed, float(np.linalg.norm(gram)) * 1.01, transform.residual, transform.step
        )
    sketch = transform.sketch(values)
    wide = values.astype(np.longdouble)
    true = np.sqrt(((wide[:, None] - wide[None]) ** 2).sum(axis=2))
    apart = np.sqrt(((sketch.bytes.astype(np.int64)[:, None] - sketch.bytes[None].astype(np.int64)) ** 2).sum(axis=2))
    slack = sketch.slack.astype(np.longdouble)
    bound = np.longdouble(transform.step) * apart - slack[:, None] - slack[None]
    assert (bound <= true * (1 + 1e-15)).all()
    limits = transform.limits((true**2).astype(np.float64).reshape(-1), (slack[:, None] + slack[None]).reshape(-1))
    assert (apart.reshape(-1) ** 2 <= limits).all()


@pytest.mark.parametrize("numbers", [784, 3072, 12_288])
def test_large_items_from_files_equal_knn(tmp_path, numbers):
    base = DRAW.integers(0, 256, (20, numbers // 8)).repeat(8, axis=1)
    rows = np.clip(base[DRAW.integers(0, 20, 300)] + DRAW.integers(-9, 10, (300, numbers)), 0, 255).astype(np.uint8)
    rows[77] = rows[11]
    index = memfast.index(rows, out=tmp_path / "index", shard_items=128)
    queries = np.concatenate([rows[::30], DRAW.integers(0, 256, (4, numbers), dtype=np.uint8)])
    expected = memfast.knn(queries, rows, 7)
    assert index.search(queries, 7) == expected
    assert index.search(queries[0], 300) == memfast.knn(queries[:1], rows, 300)
    assert memfast.knn(queries, str(tmp_path / "index"), 7) == expected
    assert memfast.knn(queries.astype(np.float32), index, 7) == memfast.knn(queries.astype(np.float32), rows, 7)
    assert index.search(rows, 3, exclude_self=True) == memfast.knn(rows, rows, 3, exclude_self=True)
    assert index.work.measured > 0
    distances, indices = index.search(queries, 2)
    assert (distances.shape, indices.shape) == ((len(queries), 2), (len(queries), 2))


@pytest.fixture
def made(tmp_path):
    """A folder of npy data with names nowhere, and its index in several shards."""
    rows = np.repeat(DRAW.integers(0, 256, (30, 1024), dtype=np.uint8), 4, axis=0)
    rows[np.arange(120), DRAW.integers(0, 1024, 120)] ^= DRAW.integers(0, 2, 120).astype(np.uint8)
    rows = rows.reshape(120, 32, 32)
    np.save(tmp_path / "train.npy", rows)
    return rows, memfast.index(tmp_path / "train.npy", out=tmp_path / "index", shard_items=50), tmp_path / "index"


def test_an_index_is_a_source(made):
    rows, index, folder = made
    some = np.flatnonzero(DRAW.random(120) < 0.7)
    for queries in (rows[:3], rows[:40]):
        assert memfast.knn(queries, Subset(index, some), 5) == memfast.knn(queries, rows[some], 5)
    assert is_source(index)
    assert (len(index), index.item_shape, index.dtype, index.labels) == (120, (32, 32), np.uint8, None)
    np.testing.assert_array_equal(index.block(40, 110), rows[40:110])
    np.testing.assert_array_equal(index.take([119, 0, 50]), rows[[119, 0, 50]])
    assert index.item_name(57) == "57"
    opened = open_source(str(folder))
    assert opened.content_hash() == index.content_hash()
    np.testing.assert_array_equal(opened.block(0, 120), rows)


def test_duplicates_and_ranges_equal_those_of_the_data(made):
    rows, index, _ = made
    flat = rows.reshape(120, -1)
    assert np.array_equal(index.duplicates().representative, memfast.neighbors.exact_duplicates(rows).representative)
    for radius in (1e-4, 2e-4, 0.3):
        expected = duplicates(rows, radius_squared=(radius * 255) ** 2 * 1024)
        assert np.array_equal(index.near_duplicates(radius).representative, expected.representative)
    for exclude in (False, True):
        options = {"radius_squared": 2, "exclude_self": exclude}
        found = RangeSearchResult.collect(range_search(flat, index, **options))
        expected = RangeSearchResult.collect(range_search(flat, flat, **options))
        for name in ("queries", "indices", "squared_distances"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_without_rows_survivors_come_from_the_source(made, tmp_path):
    rows, _, _ = made
    index = memfast.index(tmp_path / "train.npy", out=tmp_path / "thin", rows=False, shard_items=50)
    assert not list((tmp_path / "thin").rglob("rows.npy"))
    assert index.search(rows[:20], 5) == memfast.knn(rows[:20], rows, 5)
    changed = rows.copy()
    changed[3, 0, 0] ^= 1
    np.save(tmp_path / "train.npy", changed)
    with pytest.raises(InputError, match=r"train.npy: expected the file .* received one that was changed"):
        memfast.open_index(tmp_path / "thin").search(rows[:20], 5)
    with pytest.raises(InputError, match="rows: expected True for data in memory"):
        memfast.index(rows, out=tmp_path / "none", rows=False)


def test_more_items_are_appended_once(made):
    rows, index, folder = made
    more = DRAW.integers(0, 256, (70, 32, 32), dtype=np.uint8)
    for _ in range(2):
        grown = index.add(more)
        assert len(grown) == 190
    both = np.concatenate([rows, more])
    assert grown.search(both[::9], 5) == memfast.knn(both[::9], both, 5)
    assert grown.content_hash() != index.content_hash()
    with pytest.raises(InputError, match="item shape"):
        grown.add(more[:, :16])
    with pytest.raises(InputError, match="preprocessing"):
        grown.add(more, image_size=32)
    assert grown.verify() == []
    assert len(memfast.open_index(folder)) == 190


@pytest.mark.parametrize("name", ["rows.npy", "sketch.npy", "slack.npy", "items.parquet"])
def test_damage_is_named_and_other_shards_stay_usable(made, name):
    rows, index, folder = made
    path = folder / "shard-00001" / name
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)
    assert index.verify() == [("shard-00001", f"the content of {name} changed")]
    rest = memfast.open_index(folder, skip_bad=True)
    kept = np.concatenate([rows[:50], rows[100:]])
    assert rest.skipped == [("shard-00001", f"the content of {name} changed")]
    assert rest.search(rows[:5], 3) == memfast.knn(rows[:5], kept, 3)
    path.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=rf"shard-00001: {name} has \d+ bytes in place of \d+\. .*skip_bad"):
        memfast.open_index(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        memfast.open_index(folder)


def test_every_damaged_byte_of_the_manifest_and_the_transform_is_an_error(made):
    rows, _, folder = made
    for name in ("manifest.json", "transform.safetensors"):
        whole = (folder / name).read_bytes()
        for at in DRAW.integers(0, len(whole), 60):
            (folder / name).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises((CheckpointError, InputError)):
                memfast.open_index(folder).search(rows[:2], 2)
        (folder / name).write_bytes(whole)
    stored = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**stored, "schema": "memfast.index/9"}))
    with pytest.raises(CheckpointError, match=r"expected schema memfast.index/1, received 'memfast.index/9'"):
        memfast.open_index(folder)


def test_bad_input_is_one_clear_error(made, tmp_path):
    rows, index, folder = made
    with pytest.raises(InputError, match="expected the folder of an index"):
        memfast.open_index(tmp_path)
    with pytest.raises(InputError, match="items of 1024 numbers"):
        index.search(rows[:2, :16], 1)
    with pytest.raises(InputError, match="k: expected at most 120"):
        index.search(rows[:2], 121)
    with pytest.raises(InputError, match="finite numbers"):
        index.search(np.full((1, 1024), np.nan, np.float32), 1)
    with pytest.raises(OutputError, match="another index"):
        memfast.index(rows + 1, out=folder)
    with pytest.raises(OutputError, match="holds other things"):
        memfast.index(rows, out=tmp_path)
    floats = np.ones((9, 600), np.float32)
    floats[4, 5] = np.inf
    with pytest.raises(InputError, match=r"item 4 .*expected finite numbers"):
        memfast.index(floats, out=tmp_path / "floats")
    with pytest.raises(InputError, match="radius: expected a finite number"):
        index.near_duplicates(-1)


def test_only_one_process_writes(made, tmp_path):
    import fcntl

    rows, index, folder = made
    with open(folder / ".writer", "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="another process is writing"):
            index.add(rows)
        assert len(memfast.open_index(folder)) == 120
    full = tmp_path / "blocked"
    full.write_text("a file where a folder should be")
    with pytest.raises(OutputError):
        memfast.index(rows, out=full)


def test_a_full_disk_loses_the_shard_in_work_only(made, tmp_path, monkeypatch):
    rows, _, _ = made
    from memfast.neighbors import kept_index

    real, calls = kept_index.kept.write_items, []

    def full(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(kept_index.kept, "write_items", full)
    with pytest.raises(OutputError, match="No space left on device"):
        memfast.index(rows, out=tmp_path / "second", shard_items=50)
    with pytest.raises(CheckpointError, match=r"is not finished. Run the command that began it again"):
        memfast.open_index(tmp_path / "second")
    index = memfast.index(rows, out=tmp_path / "second", shard_items=50)
    assert len(calls) == 4
    assert sorted(one.name for one in (tmp_path / "second").iterdir() if one.is_dir()) == [
        f"shard-0000{number}" for number in range(3)
    ]
    assert index.search(rows[:9], 4) == memfast.knn(rows[:9], rows, 4)


KILLED = """
import sys, time
import memfast
from memfast.neighbors import kept_index
real = kept_index._write_shard
def slow(*arguments):
    print("shard", flush=True)
    time.sleep(0.02)
    return real(*arguments)
kept_index._write_shard = slow
memfast.index(sys.argv[1], out=sys.argv[2], shard_items=9)
print("done", flush=True)
"""


def test_kills_at_random_moments_change_no_bit(made, tmp_path):
    rows, _, _ = made
    memfast.index(tmp_path / "train.npy", out=tmp_path / "whole", shard_items=9)
    draw, kills = np.random.default_rng(5), 0
    for attempt in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "train.npy"), str(tmp_path / "killed")],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        if attempt < 4:
            for _ in range(int(draw.integers(1, 4))):
                child.stdout.readline()
            time.sleep(draw.uniform(0, 0.05))
            child.send_signal(signal.SIGKILL)
            kills += 1
        child.communicate(timeout=300)
        if child.returncode == 0:
            break
    assert child.returncode == 0
    assert kills == 4

    def files(folder):
        return {
            str(one.relative_to(folder)): one.read_bytes()
            for one in sorted(folder.rglob("*"))
            if one.is_file() and one.name != ".writer"
        }

    whole, killed = files(tmp_path / "whole"), files(tmp_path / "killed")
    assert {name for name in killed if not name.startswith(".")} == set(whole)
    assert all(killed[name] == content for name, content in whole.items())
    assert memfast.open_index(tmp_path / "killed").search(rows[:9], 4) == memfast.knn(rows[:9], rows, 4)


def test_many_shards_need_few_open_files(tmp_path):
    import resource

    rows = DRAW.integers(0, 256, (200, 600), dtype=np.uint8)
    index = memfast.index(rows, out=tmp_path / "index", shard_items=2)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits[0], used + 75), limits[1]))
    try:
        for queries in (rows[:20], rows[:3]):
            assert index.search(queries, 3) == memfast.knn(queries, rows, 3)
        assert index.work.measured > 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_names_labels_and_classes_come_from_the_folder(tmp_path):
    from PIL import Image

    for number in range(6):
        place = tmp_path / "images" / ("cat" if number % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(DRAW.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(place / f"{number}.png")
    source = open_source(tmp_path / "images")
    index = memfast.index(tmp_path / "images", out=tmp_path / "index", shard_items=4)
    assert [index.item_name(i) for i in range(6)] == [source.item_name(i) for i in range(6)]
    np.testing.assert_array_equal(index.labels, source.labels)
    assert index.class_names == ["cat", "dog"]
    assert index.conversion == source.conversion


def test_the_audit_of_an_index_is_that_of_its_data(made, tmp_path):
    rows, index, folder = made
    generated = np.concatenate([rows[::7], DRAW.integers(0, 256, (20, 32, 32), dtype=np.uint8)])
    of_data = memfast.audit(generated, rows, controls=False, seed=0).to_dict()
    for training in (index, str(folder)):
        of_index = memfast.audit(generated, training, controls=False, seed=0).to_dict()
        assert of_index["criteria"] == of_data["criteria"]


def test_the_commands(made, tmp_path, capsys):
    rows, _, folder = made
    assert main(["index", str(tmp_path / "train.npy"), "--out", str(tmp_path / "new"), "--json", "--verify"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["items"], facts["damage"], facts["components"]) == (120, [], components_for(1024))
    np.save(tmp_path / "more.npy", rows[:7] ^ 1)
    assert main(["index", str(tmp_path / "more.npy"), "--out", str(folder), "--add", "-q"]) == 0
    assert "127 items of 32x32 uint8" in capsys.readouterr().out
    assert main(["info", str(folder)]) == 0
    assert "4 shards, rows kept" in capsys.readouterr().out
    shutil.rmtree(folder / "shard-00002")
    assert main(["index", str(tmp_path / "train.npy"), "--out", str(folder), "--verify"]) == 1
    assert "damaged: shard-00002: items.parquet is missing" in capsys.readouterr().out
    assert main(["info", str(tmp_path)]) == 1
    assert "expected the folder of an index" in capsys.readouterr().err


def test_an_index_of_clean_data_passes_nothing_over(tmp_path):
    """Its own lock is no entry of the training set: an audit with --strict must accept it."""
    data = np.random.default_rng(0).integers(0, 256, (30, 6, 6), dtype=np.uint8)
    memfast.index(data, out=tmp_path / "index")
    assert open_source(str(tmp_path / "index")).not_read == ()
    (tmp_path / "index/notes.txt").write_text("somebody's own")
    (tmp_path / "index/.hidden").write_text("somebody's own")
    assert [one.count for one in open_source(str(tmp_path / "index")).not_read] == [1]
