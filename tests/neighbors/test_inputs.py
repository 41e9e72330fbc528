"""Inputs at the edge of a search: no queries, masks, sparse and 8-bit tensors, limits of similarity, other indexes."""

import numpy as np
import pytest
import scipy.sparse
import torch

from memfast import knn
from memfast.foundation.errors import InputError
from memfast.neighbors import ApproximateIndex, RangeSearchResult, duplicates, range_search

DRAW = np.random.default_rng(0)
ROWS = DRAW.standard_normal((40, 6)).astype(np.float32)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product"])
@pytest.mark.parametrize(
    "queries",
    [np.empty((0, 6), np.float32), torch.empty(0, 2, 3), np.empty((0, 6), np.uint8)],
    ids=["array", "tensor", "bytes"],
)  # fmt: skip
def test_no_queries_give_an_empty_result(queries, metric):
    found = knn(queries, ROWS, 3, metric=metric)
    assert tuple(found.indices.shape) == tuple(found.squared_distances.shape) == (0, 3)
    assert isinstance(found.indices, type(queries))


def test_no_queries_in_a_range_an_index_and_a_checkpoint(tmp_path):
    none = np.empty((0, 6), np.float32)
    assert len(RangeSearchResult.collect(range_search(none, ROWS, 1.0))) == 0
    assert knn(none, ROWS, 2, checkpoint=tmp_path / "search").indices.shape == (0, 2)
    pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    found = knn(none, ROWS, 2, approximate="Flat")
    assert found.indices.shape == (0, 2)
    assert found.exactness == "approximate"


def test_no_queries_of_another_width_and_an_empty_database_are_refused():
    with pytest.raises(InputError, match="items of 6 numbers, as in the database, received items of 5"):
        knn(np.empty((0, 5)), ROWS, 1)
    with pytest.raises(InputError, match="database: expected at least one item"):
        knn(ROWS, np.empty((0, 6)), 1)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (lambda: np.ma.masked_array(ROWS, mask=ROWS > 0), "queries: expected an array without a mask"),
        (lambda: [np.ma.masked_array(ROWS)], "queries: expected an array without a mask"),
        (lambda: torch.from_numpy(ROWS).to_sparse(), "queries: expected a dense tensor of numbers"),
        (lambda: torch.from_numpy(ROWS).to_sparse_csr(), "queries: expected a dense tensor of numbers"),
        (lambda: torch.empty(3, 6, device="meta"), "meta device"),
        (
            lambda: torch.quantize_per_tensor(torch.from_numpy(ROWS), 0.1, 0, torch.qint8),
            "queries: expected a dense tensor",
        ),
        (lambda: scipy.sparse.csr_array(ROWS), "queries: expected"),
    ],
    ids=["masked", "list", "sparse", "csr", "meta", "quantized", "scipy"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_numpy_would_misread_is_refused(rows, text):
    with pytest.raises(InputError, match=text):
        knn(rows(), ROWS, 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_narrow_floats_are_searched_by_their_values(dtype):
    rows = torch.from_numpy(ROWS).to(dtype)
    found, expected = knn(rows, rows, 3), knn(rows.float(), rows.float(), 3)
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.squared_distances, expected.squared_distances)


def test_every_pair_has_a_similarity_of_at_least_minus_one():
    axes = DRAW.standard_normal((60, 7))
    rows = np.concatenate([axes, -3 * axes])
    pairs = RangeSearchResult.collect(range_search(rows, rows, similarity=-1, metric="cosine"))
    assert len(pairs) == 120 * 120


@pytest.mark.parametrize("similarity", [1.0, 0.5, 0.0, -0.5])
def test_pairs_at_the_limit_of_similarity_are_not_lost(similarity):
    """RangeSearchResult made in float64 at exactly this angle; rows are rounded to float32, which must not decide."""
    basis = np.linalg.qr(DRAW.standard_normal((200, 5, 2)))[0]
    u, v = basis[..., 0], basis[..., 1]
    other = similarity * u + np.sqrt(1 - similarity**2) * v
    scale = DRAW.uniform(0.1, 9, (2, 200, 1))
    for x, y in zip(u * scale[0], other * scale[1], strict=True):
        assert (
            len(RangeSearchResult.collect(range_search(x[None], y[None], similarity=similarity, metric="cosine"))) == 1
        )
    away = similarity - 1e-5
    far = away * u + np.sqrt(1 - away**2) * v
    found = RangeSearchResult.collect(range_search(u, far, similarity=similarity, metric="cosine"))
    assert not (found.queries == found.indices).any()


def test_scaled_items_are_duplicates_by_similarity():
    rows = np.concatenate([ROWS, ROWS.astype(np.float64) * 7.3])
    assert duplicates(rows, similarity=1).representative.tolist() == [*range(40), *range(40)]


@pytest.mark.parametrize(
    "factory", ["IDMap,Flat", "IDMap2,Flat", "Flat,IDMap", "nonsense", "", "IVF400,Flat", "PQ5", "PCA99,Flat"]
)
def test_descriptions_that_faiss_refuses_are_our_errors(factory):
    pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    with pytest.raises(InputError, match="approximate: expected"):
        knn(ROWS, ROWS, 2, approximate=factory)


def test_an_index_of_other_rows_is_refused(tmp_path):
    pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    index = ApproximateIndex("Flat").build(ROWS)
    other = ROWS.copy()
    other[17, 3] += 1
    with pytest.raises(InputError, match="expected an index of this database, received one of other rows"):
        knn(ROWS, other, 2, approximate=index)
    index.save(tmp_path / "index")
    loaded = ApproximateIndex.load(tmp_path / "index")
    assert knn(ROWS, ROWS.astype(np.float64), 2, approximate=loaded).recall.estimate == 1
    with pytest.raises(InputError, match="received one of other rows"):
        knn(ROWS, other, 2, approximate=loaded)
