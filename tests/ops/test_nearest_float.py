"""Floats: the certified result equals float64 brute force, on data made to defeat the screen too."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memfast.ops import nearest, range_search
from memfast.ops.reference.nearest import squared_distances

_C = pytest.importorskip("memfast._C", reason="the C++ kernels are not built")


@pytest.fixture(params=_C.isa_names())
def isa(request):
    _C.set_isa(request.param)
    yield request.param
    _C.set_isa("best")


def brute_force(queries, block):
    """float64 sums of squared differences, added in NumPy's own order."""
    return np.stack([((block.astype(np.float64) - row.astype(np.float64)) ** 2).sum(1) for row in queries])


def check(queries, block, k, **options):
    """Bits as the reference's, values as NumPy's, and no row left out that is nearer than the last one kept."""
    found = nearest(queries, block, k, backend="cpu", **options)
    wanted = nearest(queries, block, k, backend="reference", **options)
    np.testing.assert_array_equal(found.squared_distances, wanted.squared_distances)
    np.testing.assert_array_equal(found.indices, wanted.indices)
    if not options and isinstance(queries, np.ndarray):
        squared = np.sort(brute_force(queries, block), 1)[:, : found.indices.shape[1]]
        np.testing.assert_allclose(found.squared_distances, squared, rtol=1e-12, atol=0)
    return found


def gaussian(count, length, seed=0):
    return np.random.default_rng(seed).standard_normal((count, length)).astype(np.float32)


@pytest.mark.parametrize("length", [1, 63, 784, 3072, 12288, 40000])
@pytest.mark.parametrize("threads", [1, 2])
def test_random(isa, length, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    count = {12288: 250, 40000: 80}.get(length, 600)
    block = gaussian(count, length)
    block[60:70] = block[7]
    queries = np.concatenate([gaussian(9, length, 1), block[5:9]])
    for k in (1, 10, count):
        check(queries, block, k)
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_kinds(isa, dtype):
    block, queries = torch.from_numpy(gaussian(900, 133)), torch.from_numpy(gaussian(21, 133, 1))
    block, queries = block.to(getattr(torch, dtype)), queries.to(getattr(torch, dtype))
    found = check(queries, block, 12)
    squared = brute_force(queries.double().numpy(), block.double().numpy())
    np.testing.assert_allclose(found.squared_distances, np.sort(squared, 1)[:, :12], rtol=1e-12)


def test_kinds_may_differ(isa):
    block, queries = gaussian(300, 50), np.random.default_rng(0).integers(0, 3, (9, 50), dtype=np.uint8)
    check(queries, block, 5)
    check(queries.astype(np.float64), block, 5)
    np.testing.assert_array_equal(
        nearest(torch.from_numpy(block).bfloat16(), queries, 5, backend="cpu").indices,
        nearest(torch.from_numpy(block).bfloat16(), torch.from_numpy(queries).half(), 5, backend="reference").indices,
    )


def test_near_copies(isa):
    """Copies that differ in the last bit of one number, far from the origin: float32 products cannot see them."""
    rng = np.random.default_rng(0)
    block = np.repeat(gaussian(1, 300) + 100, 800, 0)
    at = (np.arange(800), rng.integers(0, 300, 800))
    block[at] = np.nextafter(block[at], np.float32(1e9))
    found = check(block[:20], block, 10)
    assert (found.squared_distances[:, 0] == 0).all()
    check(np.concatenate([block[:5], gaussian(5, 300)]), block, 10)


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-19, 1e18, 3e37])
def test_magnitudes_of_float32(isa, scale):
    block = (gaussian(700, 65) * np.float64(scale)).astype(np.float32)
    check(block[:9], block, 5)
    check((gaussian(9, 65, 1) * np.float64(scale)).astype(np.float32), block, 5)


@pytest.mark.parametrize("scale", [1e-100, 1e100, 1e148])
def test_magnitudes_of_float64(isa, scale):
    block = gaussian(700, 65).astype(np.float64) * scale
    check(gaussian(9, 65, 1).astype(np.float64) * scale, block, 5)


def test_mixed_magnitudes(isa):
    rng = np.random.default_rng(0)
    scales = np.float32(10) ** rng.integers(-30, 30, 900)[:, None]
    block = (gaussian(900, 40) * scales).astype(np.float32)
    check(np.concatenate([block[:15], gaussian(5, 40, 1)]), block, 7)


@pytest.mark.parametrize("value", [0.0, -3.5, 1e-45, 3e38])
def test_constant_data_takes_the_lowest_indices(isa, value):
    block = np.full((1000, 33), value, np.float32)
    found = check(block[:5], block, 4)
    assert found.indices.tolist() == [[0, 1, 2, 3]] * 5


def test_outlying_coordinate(isa):
    block = gaussian(1500, 64)
    block[:, 7] *= 1000
    check(block[:20] + gaussian(20, 64, 1) / 10, block, 9)


def test_far_clusters_need_the_fallback(isa):
    """Within a cluster all points are nearer to each other than the screen can tell apart."""
    centres = gaussian(4, 64, 5) * 1e4
    block = centres[np.arange(20000) % 4] + gaussian(20000, 64)
    found = check(block[:12] + gaussian(12, 64, 1) / 4, block, 3)
    assert found.fallbacks == 12


def test_fallbacks_can_be_partial():
    """Only the queries inside a tight cluster away from the centre need more than the screen."""
    block = np.concatenate([gaussian(9000, 32), gaussian(1000, 32, 1) / 1e4 + 3])
    queries = np.concatenate([gaussian(8, 32, 2), gaussian(5, 32, 3) / 1e4 + 3])
    assert check(queries, block, 3).fallbacks == 5


def test_exclude_and_bound(isa):
    block = gaussian(500, 40)
    check(block[:50], block, 8, exclude=np.arange(50))
    bound = np.sort(brute_force(block[:50], block), 1)[:, 4]
    bound[0], bound[1] = -1, np.inf
    found = check(block[:50], block, 8, bound=bound)
    assert found.indices[0].tolist() == [-1] * 8
    assert np.isinf(found.squared_distances[0]).all()
    assert (found.indices[1] >= 0).all()


def test_tied_distances_take_the_lowest_index(isa):
    block = np.random.default_rng(0).integers(-1, 2, (2000, 6)).astype(np.float32)
    found = check(block[:30], block, 400)
    squared = brute_force(block[:30], block)
    np.testing.assert_array_equal(found.indices, np.argsort(squared, 1, kind="stable")[:, :400])


def test_rows_beyond_the_screen():
    block = gaussian(20, 140000)
    found = check(block[:2], block, 3)
    assert found.fallbacks == 2
    pairs = range_search(block[:2], block, 1e9, backend="cpu")
    assert len(pairs[0]) == 40


def test_denormals_count_in_every_mode():
    """Whatever mode the caller's thread is in."""
    block = np.arange(200, dtype=np.float32)[:, None] * np.float32(1e-44)
    torch.set_flush_denormal(True)
    try:
        found = nearest(block[3:5], block, 3, backend="cpu")
    finally:
        torch.set_flush_denormal(False)
    assert found.indices.tolist() == [[3, 2, 4], [4, 3, 5]]


def test_faiss_agrees_where_it_is_right():
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    block, queries = gaussian(5000, 96), gaussian(200, 96, 1)
    distances, indices = faiss.knn(queries, block, 10)
    found = nearest(queries, block, 10, backend="cpu")
    np.testing.assert_allclose(found.squared_distances, distances, rtol=1e-4)
    assert (found.indices == indices).mean() > 0.99
    assert found.fallbacks == 0


def test_unit_vectors_give_cosines():
    vectors = gaussian(400, 50).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = nearest(vectors[:20], vectors, 7, backend="cpu")
    cosines = vectors[:20] @ vectors.T
    np.testing.assert_array_equal(found.indices, np.argsort(-cosines, 1)[:, :7])
    np.testing.assert_allclose(1 - found.squared_distances / 2, -np.sort(-cosines, 1)[:, :7], atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_cpu_equals_the_reference(data):
    count, points, length = (data.draw(st.integers(1, n)) for n in (7, 400, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    magnitude = data.draw(st.sampled_from([0, 1, 1e-40, 1e15, 1e30]))
    offset = data.draw(st.sampled_from([0, 1, 1e6]))
    block, queries = (
        (rng.standard_normal((n, length)).round(data.draw(st.integers(0, 8))) * magnitude + offset).astype(np.float32)
        for n in (points, count)
    )
    k = data.draw(st.integers(1, points))
    check(queries, block, k)
    squared = squared_distances(queries[:, None].astype(np.float64), block[None].astype(np.float64))
    radius = float(np.quantile(squared, data.draw(st.floats(0, 1)), method="lower"))
    mine, theirs = (range_search(queries, block, radius, backend=name) for name in ("cpu", "reference"))
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(mine[0]) == (squared <= radius).sum()
