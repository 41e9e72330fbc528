"""Approximate search: faiss proposes, the exact engine ranks, the recall is what it says."""

import numpy as np
import pytest
from scipy.stats import binomtest

from memfast.foundation.errors import CheckpointError, InputError
from memfast.neighbors import ApproximateIndex, knn
from memfast.neighbors.approximate import wilson

pytest.importorskip("faiss", reason="faiss is not installed")


@pytest.fixture(scope="module")
def sets():
    draw = np.random.default_rng(0)
    return draw.integers(0, 256, (60, 4, 8), dtype=np.uint8), draw.integers(0, 256, (3000, 4, 8), dtype=np.uint8)


@pytest.mark.parametrize("factory", ["Flat", "IVF32,Flat", "HNSW16", "IVF16,SQ8"])
def test_candidates_are_ranked_exactly_and_the_recall_is_true(sets, factory):
    queries, database = sets
    found, exact = knn(queries, database, 10, approximate=factory), knn(queries, database, 10)
    assert found.exactness == "approximate"
    flat = [one.reshape(len(one), -1).astype(np.int64) for one in sets]
    kept = found.indices >= 0
    values = ((flat[0][:, None] - flat[1][np.maximum(found.indices, 0)]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(found.squared_distances[kept], values[kept])
    assert (np.diff(found.squared_distances, axis=1) >= 0).all()
    share = np.mean([np.isin(one, other).mean() for one, other in zip(exact.indices, found.indices, strict=True)])
    assert found.recall.estimate == pytest.approx(share)
    assert found.recall.low < found.recall.estimate <= found.recall.high
    assert found.recall.queries == 60
    if factory == "Flat":
        np.testing.assert_array_equal(found.indices, exact.indices)
        assert found.recall.estimate == 1
    if factory == "IVF32,Flat":
        assert found.recall.estimate < 0.9


def test_more_probes_find_more(sets):
    few, all_lists = (
        knn(*sets, 5, approximate=ApproximateIndex("IVF32,Flat", probes=probes)).recall.estimate for probes in (1, 32)
    )
    assert few < all_lists == 1


def test_ties_and_duplicates_rank_by_index(sets):
    data = sets[1][:200].copy()
    data[50:60] = data[10]
    exact, found = (knn(data, data, 9, exclude_self=True, approximate=one) for one in (None, "Flat"))
    assert found.recall.estimate == 1
    np.testing.assert_array_equal(found.squared_distances, exact.squared_distances)
    assert not (found.indices == np.arange(200)[:, None]).any()


def test_an_index_is_saved_and_loaded(sets, tmp_path):
    index = ApproximateIndex("IVF32,Flat", probes=4, candidates=2).build(sets[1], memory=50_000)
    index.save(tmp_path / "index.faiss")
    loaded = ApproximateIndex.load(tmp_path / "index.faiss")
    assert (loaded.factory, loaded.probes, loaded.candidates, loaded.length) == ("IVF32,Flat", 4, 2, 3000)
    first, second = (knn(*sets, 5, approximate=one) for one in (index, loaded))
    np.testing.assert_array_equal(first.indices, second.indices)
    with open(tmp_path / "index.faiss", "rb+") as file:
        file.truncate(1000)
    with pytest.raises(CheckpointError, match="not an index with its description"):
        ApproximateIndex.load(tmp_path / "index.faiss")
    with pytest.raises(CheckpointError, match="nothing"):
        ApproximateIndex.load(tmp_path / "nothing")


def test_cosine_and_floats(sets):
    queries, database = (one.astype(np.float32) for one in sets)
    found, exact = (knn(queries, database, 4, metric="cosine", approximate=one) for one in ("Flat", None))
    np.testing.assert_array_equal(found.indices, exact.indices)
    assert found.squared_distances.tobytes() == exact.squared_distances.tobytes()


def test_bad_requests_are_named(sets):
    with pytest.raises(InputError, match=r"approximate: expected a faiss index_factory string, .* received 'Cube7'"):
        knn(*sets, 3, approximate="Cube7")
    with pytest.raises(InputError, match="an index that 60 rows can train"):
        knn(sets[0], sets[0], 3, approximate="IVF100,Flat")
    with pytest.raises(InputError, match="one of 3000 rows of 32"):
        knn(sets[0], sets[0], 3, approximate=ApproximateIndex("Flat").build(sets[1]))
    with pytest.raises(InputError, match="metric: expected 'euclidean', as the index was built with"):
        knn(*sets, 3, metric="cosine", approximate=ApproximateIndex("Flat"))
    with pytest.raises(InputError, match="received an iterator"):
        knn(sets[0], iter([sets[1]]), 3, approximate="Flat")


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (10, 10), (37, 60), (999, 1000)])
def test_the_interval_is_scipys_wilson(hits, trials):
    expected = binomtest(hits, trials).proportion_ci(0.95, method="wilson")
    assert wilson(hits, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_probes_of_an_index_without_lists_are_refused(sets):
    queries, database = sets
    with pytest.raises(InputError, match="probes: expected None: Flat has no lists"):
        knn(queries, database, 2, approximate=ApproximateIndex("Flat", probes=1))
