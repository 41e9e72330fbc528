"""Chosen pairs of rows: every instruction set and the reference agree, and both are the numbers of `nearest`."""

import numpy as np
import pytest

from memfast import _C, ops
from memfast.foundation.errors import InputError

DRAW = np.random.default_rng(0)


@pytest.fixture(params=_C.isa_names())
def isa(request):
    _C.set_isa(request.param)
    yield request.param
    _C.set_isa("best")


@pytest.mark.parametrize("width", [1, 15, 31, 32, 33, 64, 100, 784, 16_385, 40_000])
def test_distances_of_bytes_are_exact(isa, width):
    x, y = (DRAW.integers(0, 256, (n, width), dtype=np.uint8) for n in (3, 9))
    x[0], y[0] = 255, 0
    expected = ((x.astype(np.int64)[:, None] - y.astype(np.int64)[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(ops.pair_distances(x, y), expected)
    starts, rows = [0, 2, 2, 7], [8, 0, 1, 1, 5, 0, 8]
    chosen = ops.pair_distances(x, y, starts, rows)
    np.testing.assert_array_equal(chosen, [*expected[0, rows[:2]], *expected[2, rows[2:]]])
    bound = np.array([expected[0, 3], -1, expected[2].max()])
    query, row, distance = ops.candidates(x, y, bound)
    wanted = np.argwhere(expected <= bound[:, None])
    np.testing.assert_array_equal(np.column_stack([query, row]), wanted)
    np.testing.assert_array_equal(distance, expected[query, row])


@pytest.mark.parametrize("dtypes", [("float32", "float32"), ("float64", "float16"), ("float32", "uint8")], ids=str)
@pytest.mark.parametrize("width", [1, 7, 8, 13, 768])
def test_distances_of_floats_have_the_bits_of_nearest(isa, dtypes, width):
    x, y = ((100 * DRAW.random((n, width))).astype(dtype) for n, dtype in zip((4, 11), dtypes, strict=True))
    found = ops.pair_distances(x, y)
    near = ops.nearest(x, y, 11)
    np.testing.assert_array_equal(np.take_along_axis(found, near.indices, 1), near.squared_distances)
    np.testing.assert_array_equal(found, ops.pair_distances(x, y, backend="reference"))
    pairs = ([0, 1, 1, 1, 6], [10, 3, 0, 0, 7, 9])
    np.testing.assert_array_equal(
        ops.pair_distances(x, y, *pairs), ops.pair_distances(x, y, *pairs, backend="reference")
    )


def test_many_candidates_of_many_queries(isa):
    x, y = (DRAW.integers(0, 256, (n, 40), dtype=np.uint8) for n in (150, 3000))
    bound = DRAW.integers(0, 2 * 10**6, 150)
    for found, wanted in zip(
        ops.candidates(x, y, bound), ops.candidates(x, y, bound, backend="reference"), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("starts", "indices"), [([0, 1], None), ([0, 2, 1], [0]), ([0, 0, 2], [0]), ([0, 1, 1], [3]), ([0, 1, 1], [-1])]
)
def test_wrong_pairs_are_refused(starts, indices):
    x, y = (DRAW.integers(0, 256, (n, 5), dtype=np.uint8) for n in (2, 3))
    with pytest.raises(InputError):
        ops.pair_distances(x, y, starts, indices)


def test_candidates_take_bytes_and_one_bound_each():
    x = DRAW.integers(0, 256, (2, 5), dtype=np.uint8)
    with pytest.raises(InputError, match="uint8 rows"):
        ops.candidates(x.astype(np.float32), x, [1, 1])
    with pytest.raises(InputError, match="one number per query"):
        ops.candidates(x, x, [1])
    with pytest.raises(InputError, match="bound"):
        ops.candidates(x, x, None)
    assert [len(one) for one in ops.candidates(x, x[:0], [1, 1])] == [0, 0, 0]
