"""Pixels: exact integers against int64 brute force that memfast did not write, on every instruction set."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memfast.ops import nearest, range_search

_C = pytest.importorskip("memfast._C", reason="the C++ kernels are not built")
LARGEST = np.iinfo(np.int64).max


@pytest.fixture(params=_C.isa_names())
def isa(request):
    _C.set_isa(request.param)
    yield request.param
    _C.set_isa("best")


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def brute_force(queries, block):
    return np.stack([((block.astype(np.int64) - row.astype(np.int64)) ** 2).sum(1) for row in queries])


def expected(squared, k):
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(squared, order, 1), order


def check(queries, block, k, **options):
    found = nearest(queries, block, k, backend="cpu", **options)
    distances, indices = expected(brute_force(queries, block), k)
    np.testing.assert_array_equal(found.squared_distances, distances)
    np.testing.assert_array_equal(found.indices, indices)
    assert found.squared_distances.dtype == found.indices.dtype == np.int64
    assert found.fallbacks == 0


def images(kind, count, length, rng):
    block = rng.integers(0, 256, (count, length), dtype=np.uint8)
    if kind == "tied":
        block = rng.integers(0, 2, (count, length), dtype=np.uint8)
    elif kind == "duplicated":
        block = block[rng.integers(0, max(1, count // 8), count)]
    elif kind == "near copies":
        block = np.repeat(block[:1], count, 0)
        block[np.arange(count), rng.integers(0, length, count)] ^= 1
    elif kind == "constant":
        block[:] = 255
    elif kind == "extremes":
        block = np.where(block > 127, 255, 0).astype(np.uint8)
    return block


@pytest.mark.parametrize("kind", ["random", "tied", "duplicated", "near copies", "constant", "extremes"])
@pytest.mark.parametrize("length", [1, 63, 784, 3072])
def test_equals_brute_force(isa, threads, kind, length):
    rng = np.random.default_rng(length)
    block = images(kind, 500, length, rng)
    queries = np.concatenate([block[:7], images(kind, 13, length, rng)])
    for k in (1, 10, 500):
        check(queries, block, k)


@pytest.mark.parametrize("length", [12288, 40000, 66048, 66049, 140001])
def test_long_rows(isa, length):
    rng = np.random.default_rng(0)
    block = images("random", 70, length, rng)
    block[3], block[4], block[5] = 255, 0, 255
    queries = np.concatenate([np.zeros((1, length), np.uint8), np.full((1, length), 255, np.uint8), block[8:9]])
    check(queries, block, 70)


@pytest.mark.parametrize(("queries", "points"), [(1, 1), (1, 4000), (2, 63), (63, 65), (500, 1), (97, 1000)])
def test_odd_sizes(isa, threads, queries, points):
    rng = np.random.default_rng(queries)
    check(images("random", queries, 31, rng), images("random", points, 31, rng), min(points, 9))


def test_more_neighbours_than_rows(isa):
    rng = np.random.default_rng(0)
    queries, block = images("random", 5, 20, rng), images("random", 7, 20, rng)
    assert nearest(queries, block, 2048).indices.shape == (5, 7)
    check(queries, block, 7)


def test_many_neighbours(isa):
    rng = np.random.default_rng(0)
    check(images("tied", 9, 40, rng), images("tied", 5000, 40, rng), 2048)


def test_descending_order_keeps_the_last(isa):
    """The worst order for a running selection: every row is nearer than all before it."""
    block = np.arange(255, -1, -1, dtype=np.uint8).repeat(20)[:, None]
    check(np.zeros((3, 1), np.uint8), block, 30)


def test_exclude_leaves_the_row_itself_out(isa, threads):
    rng = np.random.default_rng(0)
    block = images("duplicated", 300, 50, rng)
    squared = brute_force(block, block)
    np.fill_diagonal(squared, LARGEST)
    found = nearest(block, block, 300, exclude=np.arange(300), backend="cpu")
    distances, indices = expected(squared, 300)
    np.testing.assert_array_equal(found.squared_distances, distances)
    np.testing.assert_array_equal(found.indices[:, :-1], indices[:, :-1])
    assert (found.indices[:, -1] == -1).all()


def test_bound_leaves_farther_rows_out(isa):
    rng = np.random.default_rng(0)
    queries, block = images("tied", 20, 30, rng), images("tied", 400, 30, rng)
    squared = brute_force(queries, block)
    bound = np.sort(squared, 1)[:, 5]
    bound[0], bound[1] = -1, LARGEST
    found = nearest(queries, block, 400, bound=bound, backend="cpu")
    for q in range(20):
        inside = squared[q] <= bound[q]
        count = inside.sum()
        np.testing.assert_array_equal(found.squared_distances[q, :count], np.sort(squared[q][inside]))
        assert (found.squared_distances[q, count:] == LARGEST).all()
        assert (found.indices[q, count:] == -1).all()
    np.testing.assert_array_equal(
        nearest(queries, block, 400, bound=bound.astype(np.float64) + 0.5, backend="cpu").indices, found.indices
    )


def test_strided_and_tensor_inputs():
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (60, 128), dtype=np.uint8)
    rows, columns = wide[::2, 3:90], wide[:, ::2]
    check(rows[:9], rows, 5)
    check(columns[:9], columns, 5)
    found = nearest(torch.from_numpy(wide[:5]), torch.from_numpy(wide), 3)
    np.testing.assert_array_equal(found.indices, nearest(wide[:5], wide, 3).indices)
    frozen = wide.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(nearest(frozen[:5], frozen, 3).indices, found.indices)


def test_no_queries():
    found = nearest(np.empty((0, 5), np.uint8), np.ones((4, 5), np.uint8), 2, backend="cpu")
    assert found.indices.shape == found.squared_distances.shape == (0, 2)


def test_faiss_agrees_where_float32_is_exact(isa):
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    rng = np.random.default_rng(0)
    queries, block = images("random", 100, 63, rng), images("random", 3000, 63, rng)
    distances, _ = faiss.knn(queries.astype(np.float32), block.astype(np.float32), 20)
    np.testing.assert_array_equal(nearest(queries, block, 20, backend="cpu").squared_distances, distances)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_cpu_equals_the_reference(data):
    count, points, length = (data.draw(st.integers(1, n)) for n in (9, 80, 70))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    top = data.draw(st.sampled_from([1, 2, 256]))
    queries = rng.integers(0, top, (count, length), dtype=np.uint8)
    block = rng.integers(0, top, (points, length), dtype=np.uint8)
    k = data.draw(st.integers(1, points + 3))
    options = {
        "exclude": data.draw(st.sampled_from([None, rng.integers(-1, points, count)])),
        "bound": data.draw(st.sampled_from([None, rng.integers(-1, 20000, count)])),
    }
    _C.set_isa(data.draw(st.sampled_from(_C.isa_names())))
    try:
        got, wanted = (nearest(queries, block, k, backend=name, **options) for name in ("cpu", "reference"))
        np.testing.assert_array_equal(got.squared_distances, wanted.squared_distances)
        np.testing.assert_array_equal(got.indices, wanted.indices)
        radius = float(rng.integers(0, 30000))
        pairs = [
            range_search(queries, block, radius, exclude=options["exclude"], backend=n) for n in ("cpu", "reference")
        ]
        for mine, theirs in zip(*pairs, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    finally:
        _C.set_isa("best")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux' /proc")
def test_memory_beyond_the_inputs():
    # Not ru_maxrss: a new program inherits it from the process that starts it, here the whole of the tests before.
    # Writing 5 sets the peak back to what is in memory now.
    code = """
import numpy as np, torch
from memfast.ops import nearest

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024

torch.set_num_threads(2)
rng = np.random.default_rng(0)
queries, block = rng.integers(0, 256, (40000, 256), dtype=np.uint8), rng.integers(0, 256, (8000, 256), dtype=np.uint8)
nearest(queries[:9], block, 9)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = peak()
found = nearest(queries, block, 50)
results = found.indices.nbytes + found.squared_distances.nbytes
print(peak() - before - results)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(run.stdout) < 256 * 2**20
