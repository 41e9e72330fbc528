"""knn against int64 and float64 brute force, across inputs, block sizes and data that is hard on ties."""

import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from memfast import ops
from memfast.data.source import ArraySource
from memfast.foundation import progress
from memfast.foundation.errors import InputError
from memfast.neighbors import knn
from memfast.neighbors.stream import in_units


def brute(queries, database, k, exclude_self=False):
    """The definition: all squared differences, sorted by distance, then index."""
    wide = np.int64 if queries.dtype == database.dtype == np.uint8 else np.float64
    queries, database = (one.reshape(len(one), -1).astype(wide) for one in (queries, database))
    squared = np.stack([((database - query) ** 2).sum(axis=1) for query in queries])
    order = np.argsort(squared, axis=1, kind="stable")
    if exclude_self:
        order = np.stack([row[row != number] for number, row in enumerate(order)])
    order = order[:, :k]
    return np.take_along_axis(squared, order, axis=1), order


def make(kind, rows, width, seed=0):
    draw = np.random.default_rng(seed)
    if kind == "tied":
        return draw.integers(0, 3, (rows, width), dtype=np.uint8)
    if kind == "constant":
        return np.full((rows, width), 7, np.uint8)
    if kind == "near":
        base = np.repeat(draw.integers(1, 255, (1, width), dtype=np.uint8), rows, axis=0)
        base[np.arange(rows), draw.integers(0, width, rows)] += 1
        return base
    data = draw.integers(0, 256, (rows, width), dtype=np.uint8)
    return data if kind == "uint8" else (data / 127.5 - 1).astype(kind)


def budget(width, k, rows, queries, item=1):
    """A memory budget that leads to blocks of about this many rows and queries."""
    return 2 * max(rows * width * item * 3 * 2, queries * (width * item + 48 * k))


@pytest.mark.parametrize("kind", ["uint8", "tied", "constant", "near"])
@pytest.mark.parametrize(("width", "k"), [(1, 1), (63, 5), (784, 50)])
@pytest.mark.parametrize("rows", [5, 63, 10_000], ids="blocks of {}".format)
def test_uint8_equals_int64_brute_force(kind, width, k, rows):
    queries, database = make(kind, 23, width), make(kind, 201, width, seed=1)
    database[100:110] = database[5]
    found = knn(queries, database, k, memory=budget(width, k, rows, rows))
    distances, indices = brute(queries, database, k)
    np.testing.assert_array_equal(found.squared_distances, distances)
    np.testing.assert_array_equal(found.indices, indices)
    assert found.squared_distances.dtype == np.int64
    assert found.exactness == "exact"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=lambda one: one.__name__)
@pytest.mark.parametrize("rows", [2, 17, 10_000], ids="blocks of {}".format)
def test_floats_equal_float64_brute_force(dtype, rows):
    queries, database = make(dtype, 11, 63), make(dtype, 150, 63, seed=1)
    database[40:50] = database[3]
    queries[0] = database[3]
    found = knn(queries, database, 12, memory=budget(63, 12, rows, rows, 8))
    distances, indices = brute(queries, database, 12)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.squared_distances, distances, rtol=1e-12)
    whole = knn(queries, database, 12)
    assert whole.squared_distances.tobytes() == found.squared_distances.tobytes()
    assert found.exactness == "certified"


@pytest.mark.parametrize("rows", [1, 10, 64, 1000])
def test_a_set_against_itself_leaves_out_the_item_but_not_its_duplicates(rows):
    data = make("uint8", 64, 20)
    data[[9, 10, 40]] = data[8]
    found = knn(data, data, 63, exclude_self=True, memory=budget(20, 63, rows, rows))
    distances, indices = brute(data, data, 63, exclude_self=True)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_array_equal(found.squared_distances, distances)
    assert found.indices[8, :3].tolist() == [9, 10, 40]


def layouts(data, folder):
    """The same rows in every form a user may hand over."""
    (folder / "shards").mkdir()
    cuts = [0, 1, 50, 130, len(data)]
    for number in range(4):
        np.save(folder / "shards" / f"{number:03d}.npy", data[cuts[number] : cuts[number + 1]])
    np.save(folder / "all.npy", data)
    mapped = np.load(folder / "all.npy", mmap_mode="r")
    padded = np.zeros((len(data) * 2, *data.shape[1:]), data.dtype)
    padded[::2] = data
    return {
        "array": data,
        "strided": padded[::2],
        "map": mapped,
        "copy-on-write map": np.load(folder / "all.npy", mmap_mode="c"),
        "path": folder / "all.npy",
        "string": str(folder / "all.npy"),
        "folder of shards": folder / "shards",
        "list of shards": sorted((folder / "shards").glob("*.npy")),
        "list of arrays": [data[:77], data[77:]],
        "tensor": torch.from_numpy(data),
        "source": ArraySource(data),
        "source of a map": ArraySource(mapped),
        "iterator": iter([data[:3], torch.from_numpy(data[3:90]), data[90:]]),
    }


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, ">f4"], ids=str)
def test_every_layout_gives_the_same_bits(dtype, tmp_path):
    data = make("uint8", 201, 48).astype(dtype).reshape(201, 4, 4, 3)
    queries = data[:30]
    expected = brute(queries.astype(data.dtype.newbyteorder("=")), data.astype(data.dtype.newbyteorder("=")), 9)
    if dtype == ">f4":
        forms = {"array": data}
        np.save(tmp_path / "all.npy", data)
        forms["path"] = tmp_path / "all.npy"
    else:
        forms = layouts(data, tmp_path)
    for name, form in forms.items():
        found = knn(queries, form, 9, memory=budget(48, 9, 13, 64, 4))
        np.testing.assert_array_equal(found.indices, expected[1], err_msg=name)
        np.testing.assert_array_equal(found.squared_distances, expected[0], err_msg=name)
    for name, form in (forms if dtype == ">f4" else layouts(data, _fresh(tmp_path))).items():
        found = knn(form, data, 2, memory=budget(48, 2, 13, 300, 4))
        np.testing.assert_array_equal(found.indices, brute(data.astype("f8"), data.astype("f8"), 2)[1], err_msg=name)


def _fresh(folder):
    (folder / "again").mkdir()
    return folder / "again"


def test_tensors_come_back_as_tensors():
    data = torch.randn(40, 3, 5, dtype=torch.bfloat16)
    found = knn(data[:4], data, 3)
    wide = data.double().reshape(40, -1)
    expected = torch.cdist(wide[:4], wide, compute_mode="donot_use_mm_for_euclid_dist").argsort(dim=1, stable=True)
    assert isinstance(found.indices, torch.Tensor)
    assert found.squared_distances.dtype == torch.float64
    torch.testing.assert_close(found.indices, expected[:, :3])


def test_mixed_dtypes_are_compared_without_loss():
    draw = np.random.default_rng(0)
    queries, database = draw.integers(0, 256, (5, 30), dtype=np.uint8), draw.normal(100, 50, (60, 30))
    for other in (np.float16, np.float32, np.float64, np.int16, np.int64, np.bool_):
        found = knn(queries, database.astype(other), 4)
        np.testing.assert_array_equal(found.indices, brute(queries, database.astype(other).astype(np.float64), 4)[1])
    flags = database > 100
    assert knn(flags, flags, 1).exactness == "exact"


def test_cosine_equals_the_definition():
    draw = np.random.default_rng(1)
    queries, database = draw.normal(size=(9, 65)).astype(np.float32), draw.normal(size=(300, 65)).astype(np.float32)
    database[17] = queries[0] * 4
    found = knn(queries, database, 6, metric="cosine", memory=50_000)
    unit = [
        one.astype(np.float64) / np.linalg.norm(one.astype(np.float64), axis=1)[:, None] for one in (queries, database)
    ]
    similarity = unit[0] @ unit[1].T
    expected = np.argsort(-similarity, axis=1, kind="stable")[:, :6]
    np.testing.assert_array_equal(found.indices, expected)
    np.testing.assert_allclose(found.similarities, np.take_along_axis(similarity, expected, 1), atol=2e-7)
    assert found.similarities[0, 0] == 1.0
    assert found.to_dict()["metric"] == "cosine"
    with pytest.raises(AttributeError, match="cosine"):
        _ = knn(queries, database, 1).similarities


@pytest.mark.parametrize("limit", [1, 100, 5000])
def test_running_out_of_memory_halves_the_tiles(limit, monkeypatch):
    queries, database = make("tied", 33, 5), make("tied", 500, 5, seed=1)
    real = ops.nearest

    def short_of_memory(q, block, *rest, **options):
        if len(q) * len(block) > limit * 41:
            raise MemoryError
        return real(q, block, *rest, **options)

    monkeypatch.setattr(ops, "nearest", short_of_memory)
    if limit == 1:
        with pytest.raises(InputError, match=r"memory: expected room for .* received out of memory"):
            knn(queries, database, 20)
        return
    found = knn(queries, database, 20)
    np.testing.assert_array_equal(found.indices, brute(queries, database, 20)[1])


BAD = {
    "k above N": (lambda d: knn(d, d, 6), r"k: expected at most 5, the number of database items, received 6"),
    "k without itself": (lambda d: knn(d, d, 5, exclude_self=True), r"at most 4, the number of database items but the"),
    "k zero": (lambda d: knn(d, d, 0), "k: expected a whole number of at least 1, received 0"),
    "other width": (lambda d: knn(d[:, :3], d, 1), "queries: expected items of 4 numbers, .* received items of 3"),
    "empty database": (lambda d: knn(d, d[:0], 1), "database: expected at least one item"),
    "empty items": (lambda d: knn(d[:, :0], d[:, :0], 1), "at least one number"),
    "empty iterator": (lambda d: knn(d, iter([]), 1), "database: expected at least one block"),
    "iterator too short": (lambda d: knn(d, iter([d]), 6), "k: expected at most 5"),
    "ragged iterator": (lambda d: knn(d, iter([d, d[:, :2]]), 1), r"block 1: expected float32 items of 4 numbers"),
    "text": (lambda d: knn(d.astype(str), d, 1), "queries: expected .*received <U"),
    "complex": (lambda d: knn(d.astype(complex), d, 1), "queries: .*received complex128"),
    "number": (lambda d: knn(3, d, 1), "queries: expected an array, .* received int"),
    "no such file": (lambda d: knn(d, "nothing.npy", 1), "nothing.npy: expected a .npy file, received no such file"),
    "metric": (lambda d: knn(d, d, 1, metric="l1"), "metric: expected one of euclidean, cosine, inner_product"),
    "memory": (lambda d: knn(d, d, 1, memory=10), "memory: expected at least .* received 10 bytes"),
    "not one set": (lambda d: knn(d[:2], d, 1, exclude_self=True), "exclude_self: expected queries and data"),
    "distributed": (lambda d: knn(d, d, 1, distributed="yes"), "distributed: expected 'auto' or False"),
    "shards differ": (lambda d: knn(d, [d, d[:, :2]], 1), r"database\[1\]: expected float32 items of 4 numbers"),
    "huge integer": (lambda d: knn(d, np.full((2, 4), 2**60), 1), "row 0 of database: expected integers of at most"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call(np.arange(20, dtype=np.float32).reshape(5, 4))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["queries", "database"])
def test_nan_names_the_row(value, where):
    data = {name: make(np.float32, 200, 30) for name in ("queries", "database")}
    data[where][150, 7] = value
    with pytest.raises(
        InputError, match=rf"row 150 of {where}: expected finite numbers, received -?(nan|inf) at element 7"
    ):
        knn(data["queries"], data["database"], 3, memory=budget(30, 3, 16, 16, 4))


def test_large_finite_values_are_no_nan():
    data = np.full((3, 50), 3e38, np.float32)
    assert knn(data, data, 1).squared_distances.tolist() == [[0.0]] * 3


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)])
def test_integers_that_float64_rounds_are_refused(value):
    held = np.array([[2**53], [-(2**53)]])
    assert knn(held, held, 1).squared_distances.tolist() == [[0], [0]]
    with pytest.raises(InputError, match=r"row 1 of database: expected integers of at most 2\*\*53"):
        knn(held, np.array([[0], [value]]), 1)


def test_a_stream_that_changes_at_the_edge_of_a_unit_is_refused():
    first = np.zeros((64, 3), np.float32)
    for second in (first.astype(np.float64), first[:, :2], first.astype(np.uint8)):
        with pytest.raises(InputError, match="block 1: expected float32 items of 3 numbers, as before"):
            list(in_units([first, second], 64))


def test_a_budget_in_words_is_refused():
    with pytest.raises(InputError, match="memory: expected a number of bytes, received '1 GiB'"):
        knn(np.zeros((2, 3)), np.zeros((2, 3)), 1, memory="1 GiB")


def test_zero_vectors_have_no_cosine():
    data = make(np.float32, 20, 5)
    data[13] = 0
    with pytest.raises(InputError, match="row 13 of database: expected a vector with a direction, received all zeros"):
        knn(data[:5], data, 1, metric="cosine")


def test_truncated_and_pickled_files_are_refused(tmp_path):
    data = make("uint8", 50, 30)
    np.save(tmp_path / "short.npy", data)
    with open(tmp_path / "short.npy", "rb+") as file:
        file.truncate(700)
    np.save(tmp_path / "objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(data))
    (tmp_path / "noise.npy").write_bytes(b"not an array")
    for name, message in {
        "short": "expected 1628 bytes for 50 rows of 30 uint8, received 700 bytes. The file is truncated",
        "objects": "pickled objects, which are never loaded",
        "fortran": "Fortran order",
        "noise": "expected a readable .npy file",
    }.items():
        with pytest.raises(InputError, match=message):
            knn(data, tmp_path / f"{name}.npy", 1)


def test_a_budget_may_be_written_as_a_float():
    data = make("uint8", 50, 30)
    np.testing.assert_array_equal(knn(data, data, 1, memory=4e9).indices, knn(data, data, 1, memory=4 * 10**9).indices)
    with pytest.raises(InputError, match=r"memory: expected a number of bytes, received 4000\.5"):
        knn(data, data, 1, memory=4000.5)


def test_progress_in_a_pipe_is_one_plain_line(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", float("inf"))
    data = make("uint8", 50, 30)
    knn(data, data, 1, progress=True)
    assert capsys.readouterr().err.startswith("searching: 50/50 rows, ")
    knn(data, data, 1)
    assert capsys.readouterr().err == ""


MEASURE = """
import sys
import numpy as np
from memfast.neighbors import knn

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024

path, form = sys.argv[1:]
database = np.load(path, mmap_mode="r") if form == "map" else path
queries = np.ones((20, 1000), np.uint8)
knn(queries, np.load(path, mmap_mode="r")[:1000], 5)
before = peak()
knn(queries, database, 5, memory=32 << 20)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux' /proc")
def test_memory_stays_in_its_budget_on_a_larger_file(tmp_path):
    file = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.uint8, (200_000, 1000))
    file[:, 0] = 1
    file.flush()
    for form in ("map", "path"):
        command = [sys.executable, "-c", MEASURE, str(tmp_path / "large.npy"), form]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
        # Three blocks of 2.7 MiB live, one is packed and one's file pages are mapped: 9 to 17 MiB, and what the system
        # maps around them.
        assert float(done.stdout) < 32, form


def test_a_private_mapping_keeps_what_only_it_holds():
    data = make("uint8", 50, 1000)
    owner = mmap.mmap(-1, data.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    database = np.ndarray(data.shape, np.uint8, buffer=owner)
    database[...] = data
    np.testing.assert_array_equal(knn(data, database, 3).indices, knn(data, data, 3).indices)
    np.testing.assert_array_equal(database, data)
