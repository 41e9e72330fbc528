import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from memfast.foundation.errors import InputError
from memfast.metrics import kernel_distance


def clouds(n=120, m=90, width=8):
    generator = np.random.default_rng(0)
    return generator.standard_normal((n, width)), generator.standard_normal((m, width)) + 0.3


def unbiased(within_x, within_y, between):
    n, m = len(within_x), len(within_y)
    first = (within_x.sum() - np.trace(within_x)) / (n * (n - 1))
    second = (within_y.sum() - np.trace(within_y)) / (m * (m - 1))
    return first + second - 2 * between.mean()


def test_polynomial_equals_scikit_learns_kernel():
    x, y = clouds()
    peer = unbiased(*(polynomial_kernel(a, b, degree=3, coef0=1) for a, b in ((x, x), (y, y), (x, y))))
    assert kernel_distance(x, y, subsets=None).value == pytest.approx(peer, rel=1e-11)


def test_rbf_equals_scikit_learns_kernel():
    x, y = clouds()
    peer = unbiased(*(rbf_kernel(a, b, gamma=1 / (2 * 1.7**2)) for a, b in ((x, x), (y, y), (x, y))))
    found = kernel_distance(x, y, kernel="rbf", bandwidth=1.7, subsets=None)
    assert found.value == pytest.approx(peer, rel=1e-11)


def test_equals_torchmetrics():
    from torchmetrics.image.kid import poly_mmd

    x, y = clouds(m=120)
    peer = float(poly_mmd(torch.from_numpy(x), torch.from_numpy(y)))
    assert kernel_distance(x, y, subsets=None).value == pytest.approx(peer, rel=1e-10)
    assert kernel_distance(x, y, subsets=1, subset_size=120).value == pytest.approx(peer, rel=1e-10)


def test_subsets_average_to_the_whole():
    x, y = clouds(400, 400)
    found, whole = kernel_distance(x, y, subset_size=100), kernel_distance(x, y, subsets=None)
    assert abs(found.value - whole.value) < 4 * found.standard_deviation / np.sqrt(100)


def test_median_bandwidth():
    x, y = clouds()
    distances = np.linalg.norm(y[:, None] - y, axis=2)[np.triu_indices(len(y), 1)]
    assert kernel_distance(x, y, kernel="rbf", subsets=None).bandwidth == pytest.approx(np.median(distances), rel=1e-9)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "subset_size: expected a whole number from 2 to 90, received 1000. Or pass subsets=None"),
        ({"kernel": "linear"}, "'polynomial' or 'rbf'"),
        ({"kernel": "rbf", "bandwidth": 0.0}, "bandwidth"),
    ],
)
def test_bad_input(options, text):
    with pytest.raises(InputError, match=text):
        kernel_distance(*clouds(), **options)


def test_constant_reference_needs_a_bandwidth():
    with pytest.raises(InputError, match="Are all rows of y equal"):
        kernel_distance(clouds()[0], np.ones((50, 8)), kernel="rbf", subsets=None)


@pytest.mark.parametrize("subsets", [None, 3])
def test_features_whose_kernel_overflows_are_refused(subsets):
    x = 1e100 * np.random.default_rng(0).normal(size=(50, 4))
    with pytest.raises(InputError, match="features: expected magnitudes whose kernel float64 holds"):
        kernel_distance(x, x + 1e100, subsets=subsets, subset_size=20)


def test_the_bandwidth_looks_at_the_whole_set():
    """Data sets come sorted by class: the first rows are all of one."""
    y = np.repeat(np.eye(4) * 100, 500, axis=0) + np.random.default_rng(0).standard_normal((2000, 4))
    distances = np.linalg.norm(y[::7, None] - y[::7], axis=2)
    found = kernel_distance(y, y, kernel="rbf", subsets=1, subset_size=10).bandwidth
    assert found == pytest.approx(np.median(distances[np.triu_indices(len(distances), 1)]), rel=0.01)


def test_degree_gamma_and_coef_are_those_of_torchmetrics():
    kid = pytest.importorskip("torchmetrics.image.kid", reason="torchmetrics is not installed")
    draw = np.random.default_rng(8)
    x, y = draw.standard_normal((30, 5)), draw.standard_normal((40, 5)) + 0.3
    for degree, gamma, coef in [(3, None, 1.0), (2, 0.4, 0.5), (4, 0.1, 2.0), (1, 1.0, 0.0)]:
        kernels = [kid.poly_kernel(torch.from_numpy(a), torch.from_numpy(b), degree, gamma, coef)
                   for a, b in ((x, x[:, :]), (y, y), (x, y))]  # fmt: skip
        n, m = 30, 40
        expected = (
            (kernels[0].sum() - kernels[0].trace()) / (n * (n - 1))
            + (kernels[1].sum() - kernels[1].trace()) / (m * (m - 1))
            - 2 * kernels[2].mean()
        )
        found = kernel_distance(x, y, degree=degree, gamma=gamma, coef=coef, subsets=None)
        assert found.value == pytest.approx(float(expected), rel=1e-9)
    with pytest.raises(InputError, match="degree: expected a whole number of at least 1"):
        kernel_distance(x, y, degree=0)
    with pytest.raises(InputError, match="gamma: expected a finite number above 0"):
        kernel_distance(x, y, gamma=0)
