"""scikit-learn's own tests of neighbours and of areas under the curve, run against memfast."""

import numpy as np
import pytest
import sklearn.datasets
from sklearn.neighbors import NearestNeighbors

import memfast
from memfast.detectors import roc
from memfast.metrics import nearest_neighbor_accuracy

neighbors_suite = pytest.importorskip("sklearn.neighbors.tests.test_neighbors", reason="this scikit-learn has no tests")
ranking_suite = pytest.importorskip("sklearn.metrics.tests.test_ranking", reason="this scikit-learn brings no tests")


class ExactNeighbors(NearestNeighbors):
    """scikit-learn's interface over `memfast.knn`."""

    def fit(self, rows, y=None):
        super().fit(rows, y)
        self.rows = rows
        return self

    def kneighbors(self, X=None, n_neighbors=None, return_distance=True):
        k, itself = n_neighbors or self.n_neighbors, X is None
        rows = np.asarray(self.rows, float)
        found = memfast.knn(rows if itself else np.asarray(X, float), rows, k, exclude_self=itself)
        CALLS.append(len(found.indices))
        return (found.distances, found.indices) if return_distance else found.indices


CALLS = []


@pytest.mark.parametrize("algorithm", ["kd_tree", "ball_tree", "brute"])
def test_a_set_against_itself(algorithm, monkeypatch):
    """Their test of duplicates is left out: among equal neighbours they take an arbitrary one, we the lowest index."""
    monkeypatch.setattr(neighbors_suite.neighbors, "NearestNeighbors", ExactNeighbors)
    CALLS.clear()
    neighbors_suite.test_k_and_radius_neighbors_X_None(algorithm)
    assert CALLS


@pytest.mark.parametrize("name", ["test_roc_curve_toydata", "test_roc_curve_end_points"])
def test_areas(name, monkeypatch):
    real = ranking_suite.roc_auc_score

    def area(y_true, y_score, **options):
        truth = np.asarray(y_true)
        if options or truth.ndim != 1 or set(np.unique(truth)) != {0, 1}:
            return real(y_true, y_score, **options)
        CALLS.append(len(truth))
        return roc(y_score, truth, resamples=1).auc

    CALLS.clear()
    monkeypatch.setattr(ranking_suite, "roc_auc_score", area)
    getattr(ranking_suite, name)()
    assert CALLS or name == "test_roc_curve_end_points"


GENERATORS = {
    "blobs": lambda: sklearn.datasets.make_blobs(300, 6, random_state=0)[0],
    "moons": lambda: sklearn.datasets.make_moons(300, noise=0.05, random_state=0)[0],
    "swiss roll": lambda: sklearn.datasets.make_swiss_roll(300, random_state=0)[0],
    "low rank": lambda: sklearn.datasets.make_low_rank_matrix(300, 40, random_state=0),
    "sparse coded": lambda: sklearn.datasets.make_sparse_uncorrelated(300, random_state=0)[0],
    "digits": lambda: sklearn.datasets.load_digits().data,
    "iris, with duplicates": lambda: sklearn.datasets.load_iris().data,
}


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS.keys())
def test_their_data(make):
    """Distances of the k nearest on every data set that scikit-learn makes, by Euclid, cosine and inner product."""
    rows = make()
    half = len(rows) // 2
    queries, database = rows[:half], rows[half:]
    expected = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(database).kneighbors(queries)[0]
    np.testing.assert_allclose(memfast.knn(queries, database, 5).distances, expected, rtol=1e-5, atol=1e-6)
    cosine = NearestNeighbors(n_neighbors=5, algorithm="brute", metric="cosine").fit(database).kneighbors(queries)[0]
    found = memfast.knn(queries, database, 5, metric="cosine")
    np.testing.assert_allclose(1 - found.similarities, cosine, atol=1e-6)
    products = -np.sort(-(queries @ database.T), axis=1)[:, :5]
    found = memfast.knn(queries, database, 5, metric="inner_product")
    np.testing.assert_allclose(found.inner_products, products, rtol=1e-9, atol=1e-12)
    assert 0 <= nearest_neighbor_accuracy(queries, database, permutations=1).accuracy <= 1
