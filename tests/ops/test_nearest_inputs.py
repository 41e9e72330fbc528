"""Range search, and what nearest and within refuse."""

import numpy as np
import pytest
import torch

from memfast.foundation.errors import BackendUnavailableError, InputError
from memfast.ops import nearest, range_search

BACKENDS = ["reference", "cpu"]
BYTES = np.zeros((4, 3), np.uint8)
FLOATS = np.zeros((4, 3), np.float32)


@pytest.fixture(params=BACKENDS)
def backend(request):
    if request.param == "cpu":
        pytest.importorskip("memfast._C", reason="the C++ kernels are not built")
    return request.param


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_pairs_within_a_radius(backend, dtype):
    rng = np.random.default_rng(0)
    block = rng.integers(0, 4, (300, 12)).astype(dtype)
    squared = ((block[:40, None].astype(np.int64) - block[None].astype(np.int64)) ** 2).sum(2)
    query, index, distance = range_search(block[:40], block, 11, backend=backend)
    wanted = np.argwhere(squared <= 11)
    assert len(query) == len(wanted)
    np.testing.assert_array_equal(np.lexsort((index, distance, query)), np.arange(len(query)))
    np.testing.assert_array_equal(squared[query, index], distance)
    assert set(zip(query.tolist(), index.tolist(), strict=True)) == {tuple(pair) for pair in wanted.tolist()}
    assert query.dtype == index.dtype == np.int64
    assert distance.dtype == (np.int64 if dtype is np.uint8 else np.float64)


def test_many_pairs_per_query(backend):
    """More than one batch of waiting candidates."""
    block = np.random.default_rng(0).integers(0, 2, (6000, 5), dtype=np.uint8)
    for data in (block, block.astype(np.float32)):
        query, index, distance = range_search(data[:3], data, 5, exclude=np.arange(3), backend=backend)
        assert len(query) == 3 * 5999
        assert all((index[query == q] != q).all() for q in range(3))
        np.testing.assert_array_equal(np.lexsort((index, distance, query)), np.arange(len(query)))


def test_empty_results(backend):
    for data in (BYTES, FLOATS):
        query, index, distance = range_search(data, data + 9, 1, backend=backend)
        assert len(query) == len(index) == len(distance) == 0
        assert range_search(data, data[:0], 1, backend=backend)[2].dtype == distance.dtype


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["queries", "block"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_not_finite(backend, bad, name, dtype):
    data = {"queries": torch.zeros(500, 70, dtype=dtype), "block": torch.zeros(600, 70, dtype=dtype)}
    data[name][321, 5] = bad
    data[name][400, 69] = bad
    with pytest.raises(InputError, match=f"{name}: .* NaN or infinity in row 321"):
        nearest(data["queries"], data["block"], 3, backend=backend)
    with pytest.raises(InputError, match=f"{name}: .* NaN or infinity in row 321"):
        range_search(data["queries"], data["block"], 3, backend=backend)


def test_too_large(backend):
    with pytest.raises(InputError, match="block: expected magnitudes up to 1e\\+150, received a larger one in row 2"):
        nearest(FLOATS, np.array([[0.0] * 3, [1e150] * 3, [1e151] * 3]), 1, backend=backend)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((BYTES, BYTES, 0), "k: expected a whole number of at least 1, received 0"),
        ((BYTES, BYTES, 2.5), "k: expected a whole number of at least 1, received 2.5"),
        ((BYTES, BYTES, True), "k: expected a whole number of at least 1, received True"),
        ((BYTES, BYTES[:0], 1), "block: expected at least one row, received an empty block"),
        ((BYTES, BYTES[:, :2], 1), "block: expected rows of length 3, as the queries have, received rows of length 2"),
        ((BYTES[0], BYTES, 1), r"queries: expected a matrix .* received shape \[3\]"),
        ((BYTES[:, :0], BYTES[:, :0], 1), "queries: expected a matrix"),
        ((BYTES.astype(np.int64), BYTES, 1), "queries: expected numbers of kind uint8, .* received int64"),
        ((BYTES, BYTES.astype(np.complex64), 1), "block: expected numbers of kind .* received complex64"),
        ((BYTES, FLOATS.astype(">f4"), 1), "block: expected numbers of kind .* received >f4"),
    ],
)
def test_refused(backend, arguments, message):
    with pytest.raises(InputError, match=message):
        nearest(*arguments, backend=backend)


def test_refused_options(backend):
    with pytest.raises(InputError, match=r"bound: expected one number per query, shape \[4\]"):
        nearest(BYTES, BYTES, 1, bound=np.zeros(3), backend=backend)
    with pytest.raises(InputError, match="exclude: expected one row number per query"):
        nearest(BYTES, BYTES, 1, exclude=np.zeros(4), backend=backend)
    for radius in (-1, np.inf, np.nan):
        with pytest.raises(InputError, match="radius_squared: expected a finite number of at least 0"):
            range_search(BYTES, BYTES, radius, backend=backend)
    with pytest.raises(InputError, match="backend: expected one of auto"):
        nearest(BYTES, BYTES, 1, backend="abacus")
    with pytest.raises(BackendUnavailableError):
        nearest(BYTES, BYTES, 1, backend="cuda")


@pytest.mark.parametrize("data", [BYTES, FLOATS], ids=["bytes", "floats"])
@pytest.mark.parametrize("bound", [[np.nan, 1, 1, 1], ["a"] * 4, [None] * 4], ids=["nan", "text", "objects"])
def test_a_bound_that_is_no_number_is_refused(data, bound):
    with pytest.raises(InputError, match="bound: expected real numbers"):
        nearest(data, data, 1, bound=np.array(bound))


def test_a_bound_beyond_int64_bounds_nothing():
    bound = np.full(len(BYTES), 2**64 - 1, np.uint64)
    assert (
        nearest(BYTES, BYTES, 1, bound=bound).indices[:, 0].tolist() == nearest(BYTES, BYTES, 1).indices[:, 0].tolist()
    )


@pytest.mark.parametrize(
    "search", [lambda a, b: nearest(a, b, 2), lambda a, b: range_search(a, b, 1.0)], ids=["k", "r"]
)
@pytest.mark.parametrize("place", [0, 1], ids=["queries", "block"])
@pytest.mark.parametrize(
    ("given", "text"),
    [
        (np.ma.masked_array(FLOATS, mask=FLOATS == 0), "expected an array without a mask"),
        (np.ma.masked_array(BYTES), "expected an array without a mask"),
        (torch.eye(4).to_sparse(), "expected a dense tensor of numbers, received one of layout torch.sparse_coo"),
        (torch.zeros(4, 3, device="meta"), "expected a dense tensor of numbers, received one on the meta device"),
    ],
    ids=["masked", "masked bytes", "sparse", "meta"],
)
def test_rows_that_cannot_be_read_one_by_one_are_refused(search, place, given, text):
    pair = [FLOATS, FLOATS]
    pair[place] = given
    with pytest.raises(InputError, match=f"{['queries', 'block'][place]}: {text}"):
        search(*pair)


@pytest.mark.parametrize("option", ["bound", "exclude"])
def test_masked_options_are_refused(option):
    with pytest.raises(InputError, match=f"{option}: expected an array without a mask"):
        nearest(FLOATS, FLOATS, 2, **{option: np.ma.masked_array(np.zeros(4, np.int64), mask=[1, 0, 0, 0])})
