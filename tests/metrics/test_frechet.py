import numpy as np
import pytest
import scipy.linalg
import torch

from memfast.foundation.errors import InputError
from memfast.metrics import Moments, frechet_distance, frechet_infinity


def clouds(n=300, m=200, width=12, seed=0):
    generator = np.random.default_rng(seed)
    mix = generator.standard_normal((width, width))
    return generator.standard_normal((n, width)), generator.standard_normal((m, width)) @ mix + 0.5


def by_scipy(x, y):
    first, second = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(first @ second).real
    return float(np.square(x.mean(0) - y.mean(0)).sum() + np.trace(first + second - 2 * root))


def test_equals_scipys_matrix_root():
    x, y = clouds()
    assert frechet_distance(x, y) == pytest.approx(by_scipy(x, y), rel=1e-9)


def test_equals_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance

    x, y = (rows.astype(np.float32) for rows in clouds())
    peer = FrechetInceptionDistance(feature=torch.nn.Identity(), input_img_size=(12,)).set_dtype(torch.float64)
    peer.update(torch.from_numpy(x), real=True)
    peer.update(torch.from_numpy(y), real=False)
    assert frechet_distance(x, y) == pytest.approx(float(peer.compute()), rel=1e-6)


def test_few_rows_equal_many_features():
    """The nuclear-norm form (rows < features) equals the covariance form."""
    x, y = clouds(30, 25, 80)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(Moments().update(x), Moments().update(y)), rel=1e-6)


def test_hand_made_gaussians():
    points = np.array([[-1.0, 0], [1, 0], [0, -1], [0, 1]])
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-15)
    assert frechet_distance(points, 3 * points + [3, 4]) == pytest.approx(25 + 2 * (2 / 3) * 4, rel=1e-12)


def test_constant_features_are_fine():
    x, y = np.ones((10, 3)), np.zeros((8, 3))
    assert frechet_distance(x, y) == pytest.approx(3)


def test_a_mean_far_from_zero_costs_no_digits():
    x, y = clouds()
    assert frechet_distance(x + 1e6, y + 1e6) == pytest.approx(frechet_distance(x, y), rel=1e-6)


def test_infinity_removes_most_of_the_bias():
    generator = np.random.default_rng(0)
    reference = generator.standard_normal((20000, 20))
    generated = generator.standard_normal((1500, 20))
    found = frechet_infinity(generated, reference)
    assert abs(found.value) < 0.3 * frechet_distance(generated, reference)
    assert found.slope > 0
    assert len(found.sizes) == 15
    assert found.sizes[-1] == 1500


@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        (np.ones((1, 2)), np.ones((5, 2)), "x: expected at least 2 rows, received 1"),
        (np.ones((3, 2)), np.ones((5, 4)), "y: expected 2 features per row"),
        (np.ones((3, 2)), np.array([[1, 2], [np.inf, 0.0]]), "y: .* in row 1"),
    ],
)
def test_bad_input(x, y, text):
    with pytest.raises(InputError, match=text):
        frechet_distance(x, y)


def test_infinity_needs_a_spread_of_sizes():
    with pytest.raises(InputError, match="smallest"):
        frechet_infinity(np.random.default_rng(0).standard_normal((10, 2)), np.eye(2), smallest=10)


@pytest.mark.parametrize("scale", [2.0**-400, 2.0**330], ids=["1e-120", "1e99"])
def test_products_of_variances_leave_float64_and_the_distance_does_not(scale):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(50, 4)), generator.normal(size=(60, 4)) + 1
    assert frechet_distance(scale * x, scale * y) == scale**2 * frechet_distance(x, y)
    few = [rows[:3].copy() for rows in (np.hstack([x, x**2]), np.hstack([y[:50], y[:50] ** 2]))]
    assert frechet_distance(*(scale * rows for rows in few)) == pytest.approx(scale**2 * frechet_distance(*few))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rows", [50, 3])
def test_features_whose_squares_overflow_are_refused(rows):
    x = 1e200 * np.random.default_rng(0).normal(size=(rows, 4))
    with pytest.raises(InputError, match=r"features: expected m.* square"):
        frechet_distance(x, x[::-1] + 1e200)


def test_moments_with_nan_are_refused():
    good = Moments().update(np.random.default_rng(0).normal(size=(5, 2)))
    for name in ("mean", "scatter"):
        arrays = good.arrays()
        arrays[name].flat[0] = np.nan
        with pytest.raises(InputError, match="moments: expected finite numbers"):
            Moments.from_arrays(arrays)
    good.scatter[0, 0] = np.nan
    with pytest.raises(InputError, match="features"):
        frechet_distance(good, np.zeros((3, 2)))


@pytest.mark.parametrize("rank", [1, 4])
def test_degenerate_covariances_cost_no_digits(rank):
    """The root of a rounding error of 1e-16 would be 1e-8; the nuclear norm of the rows' product has none."""
    generator = np.random.default_rng(0)
    mix = generator.standard_normal((rank, 12))
    x, y = generator.standard_normal((60, rank)) @ mix, 1.5 * generator.standard_normal((40, rank)) @ mix + 0.2
    a, b = (x - x.mean(0)) / np.sqrt(59), (y - y.mean(0)) / np.sqrt(39)
    overlap = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.square(a).sum() + np.square(b).sum() - 2 * overlap
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-11)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-11)


def test_two_points_of_a_line_say_nothing_of_its_error():
    x, y = clouds()
    assert np.isnan(frechet_infinity(x, y, points=2).standard_error)
