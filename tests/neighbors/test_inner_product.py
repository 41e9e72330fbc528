"""Search by the largest inner product, against brute force in exact and float64 arithmetic and against faiss."""

import numpy as np
import pytest
import torch

from memfast import knn
from memfast.foundation.errors import InputError


def brute_force(queries, database, k):
    """Indices by falling product, ties by lowest index; and the products."""
    products = queries.astype(np.float64) @ database.astype(np.float64).T
    order = np.lexsort((np.broadcast_to(np.arange(len(database)), products.shape), -products), axis=1)[:, :k]
    return order, np.take_along_axis(products, order, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64], ids=lambda one: one.__name__)
@pytest.mark.parametrize("memory", [40_000, None])
def test_it_equals_brute_force_with_ties(dtype, memory):
    draw = np.random.default_rng(0)
    queries, database = draw.integers(0, 4, (33, 7)).astype(dtype), draw.integers(0, 4, (211, 7)).astype(dtype)
    found = knn(queries, database, 9, metric="inner_product", memory=memory)
    indices, products = brute_force(queries, database, 9)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_array_equal(found.inner_products, products)
    assert found.inner_products.dtype == (np.int64 if dtype == np.uint8 else np.float64)
    x, y = queries.astype(np.float64), database.astype(np.float64)
    np.testing.assert_array_equal(found.squared_distances, ((x[:, None] - y[indices]) ** 2).sum(-1))


def test_near_ties_are_told_apart_where_float32_cannot():
    draw = np.random.default_rng(1)
    base = draw.standard_normal(64)
    database = np.tile(base, (50, 1)) * (1 + 1e-13 * draw.permutation(50))[:, None]
    found = knn(base[None], database, 50, metric="inner_product")
    import math

    exact = np.array([math.fsum(base * row) for row in database])
    assert np.all(np.diff(exact[found.indices[0]]) <= 1e-13 * abs(exact).max())
    np.testing.assert_allclose(found.inner_products[0], exact[found.indices[0]], rtol=1e-14)


def test_the_result_does_not_depend_on_blocks():
    draw = np.random.default_rng(2)
    queries, database = draw.standard_normal((5, 33)), draw.standard_normal((4000, 33))
    small, large = (knn(queries, database, 20, metric="inner_product", memory=memory) for memory in (60_000, None))
    np.testing.assert_array_equal(small.indices, large.indices)
    np.testing.assert_array_equal(small.inner_products, large.inner_products)


def test_it_agrees_with_faiss():
    faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    draw = np.random.default_rng(3)
    queries, database = draw.standard_normal((20, 16), np.float32), draw.standard_normal((500, 16), np.float32)
    products, indices = faiss.knn(queries, database, 5, metric=faiss.METRIC_INNER_PRODUCT)
    found = knn(queries, database, 5, metric="inner_product")
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.inner_products, products, rtol=1e-5)


def test_itself_is_left_out_and_tensors_come_back_as_tensors():
    rows = torch.eye(4) * torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None]
    found = knn(rows, rows, 3, metric="inner_product", exclude_self=True)
    assert isinstance(found.inner_products, torch.Tensor)
    assert all(row not in found.indices[row] for row in range(4))
    assert found.indices[0].tolist() == [1, 2, 3]
    assert (found.inner_products == 0).all()
    assert knn(rows, rows, 1, metric="inner_product").to_dict()["inner_products"] == [[1.0], [4.0], [9.0], [16.0]]


@pytest.mark.parametrize("options", [{"checkpoint": "somewhere"}, {"approximate": "Flat"}])
def test_what_it_cannot_do_is_refused(options):
    with pytest.raises(InputError, match="expected None with metric='inner_product'"):
        knn(np.eye(3), np.eye(3), 1, metric="inner_product", **options)


def test_products_that_overflow_are_refused():
    with pytest.raises(InputError, match="whose inner products float64 holds"):
        knn(np.full((1, 2), 1e200), np.full((3, 2), 1e200), 1, metric="inner_product")
