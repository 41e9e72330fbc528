"""POT's data generators through POT's solvers and ours."""

import numpy as np
import pytest

from memfast.metrics import mind, wasserstein

ot = pytest.importorskip("ot", reason="POT is not installed")
KINDS = ["3gauss", "3gauss2", "gaussrot"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(60, 60), (45, 70)], ids=["equal", "unequal"])
def test_exact_distances(kind, sizes):
    x, _ = ot.datasets.make_data_classif(kind, sizes[0], random_state=0)
    y, _ = ot.datasets.make_data_classif(kind, sizes[1], random_state=1)
    for p in (1, 2):
        expected = ot.emd2([], [], ot.dist(x, y, metric="euclidean") ** p) ** (1 / p)
        assert wasserstein(x, y, p).value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_sliced_distances(kind):
    x, _ = ot.datasets.make_data_classif(kind, 80, random_state=0)
    y, _ = ot.datasets.make_data_classif(kind, 80, random_state=1)
    rows = min(len(x), len(y))
    x, y = x[:rows], y[:rows]
    directions = ot.sliced.get_random_projections(x.shape[1], 50, seed=0)
    expected = ot.sliced_wasserstein_distance(x, y, projections=directions)
    import torch

    found = wasserstein(x, y, 2, method="sliced", directions=torch.from_numpy(np.ascontiguousarray(directions.T)))
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert mind(x, y, directions=directions.T) == pytest.approx(3 * x.shape[1] * expected**2, rel=1e-9)


def test_one_dimensional_histograms():
    bins = np.arange(60, dtype=float)
    a, b = ot.datasets.make_1D_gauss(60, m=15, s=5), ot.datasets.make_1D_gauss(60, m=40, s=8)
    for p in (1, 2):
        expected = ot.wasserstein_1d(bins, bins, a, b, p) ** (1 / p)
        assert wasserstein(bins, bins, p, x_weights=a, y_weights=b).value == pytest.approx(float(expected), rel=1e-9)
