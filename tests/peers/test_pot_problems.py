"""POT's own problem generators, solved by memfast and by POT. Only its package is called; nothing of it is copied."""

import numpy as np
import ot
import ot.datasets
import pytest
import torch

from memfast.metrics import wasserstein, wasserstein_per_dimension


def classes(name, seed, count=60):
    return np.asarray(ot.datasets.make_data_classif(name, count, random_state=seed)[0])


@pytest.mark.parametrize("name", ["3gauss", "3gauss2", "gaussrot"])
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("count", [60, 45])
def test_exact_distance_between_classification_sets(name, p, count):
    x, y = classes(name, 0), classes(name, 1, count)
    costs = np.linalg.norm(x[:, None] - y, axis=2) ** p
    found = wasserstein(x, y, p)
    assert found.value**p == pytest.approx(ot.emd2([], [], costs), rel=1e-9)
    assert found.gap == 0.0


def test_exact_distance_between_gaussian_samples():
    covariance = np.asarray([[2.0, 0.8], [0.8, 1.0]])
    x = ot.datasets.make_2D_samples_gauss(80, np.zeros(2), covariance, random_state=0)
    y = ot.datasets.make_2D_samples_gauss(80, np.full(2, 4.0), covariance, random_state=1)
    assert wasserstein(x, y).value ** 2 == pytest.approx(ot.emd2([], [], ot.dist(x, y)), rel=1e-9)


@pytest.mark.parametrize("p", [1, 2])
def test_histograms_on_a_line(p):
    places = np.arange(100, dtype=float)
    a, b = ot.datasets.make_1D_gauss(100, 20, 5), ot.datasets.make_1D_gauss(100, 60, 10)
    peer = ot.wasserstein_1d(places, places, a, b, p=p)
    assert wasserstein(places, places, p, x_weights=a, y_weights=b).value ** p == pytest.approx(peer, rel=1e-9)
    found = wasserstein_per_dimension(places, places, p, x_weights=a, y_weights=b)[0]
    assert found**p == pytest.approx(peer, rel=1e-9)


@pytest.mark.parametrize("name", ["3gauss", "gaussrot"])
def test_entropic_distance_between_classification_sets(name):
    x, y = classes(name, 0, 45), classes(name, 1, 45) + 1
    costs = ot.dist(x, y)
    peer = ot.solve(costs, reg=0.5 * costs.mean(), reg_type="KL", tol=1e-12, max_iter=20_000).value
    options = {"method": "sinkhorn", "regularization": 0.5 * costs.mean(), "debiased": False, "tolerance": 1e-9}
    assert wasserstein(x, y, **options).value ** 2 == pytest.approx(peer, rel=1e-7)


@pytest.mark.parametrize("p", [1, 2])
def test_sliced_distance_between_classification_sets(p):
    x, y = classes("3gauss2", 0), classes("3gauss2", 1)
    directions = np.asarray(ot.sliced.get_random_projections(2, 30, seed=0))
    found = wasserstein(x, y, p, method="sliced", directions=torch.from_numpy(directions.T.copy()))
    assert found.value == pytest.approx(ot.sliced_wasserstein_distance(x, y, projections=directions, p=p), rel=1e-12)
