import math

import numpy as np
import ot
import pytest
import scipy.optimize
import torch
from scipy.stats import wasserstein_distance

from memfast.foundation.errors import InputError, MemfastError
from memfast.metrics import wasserstein


def clouds(n=150, m=150, width=6, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((n, width)), 0.5 * generator.standard_normal((m, width)) + 1


@pytest.mark.parametrize("p", [1, 2, 2.5])
@pytest.mark.parametrize("m", [150, 63], ids=["equal", "unequal"])
def test_exact_value_equals_pot(m, p):
    x, y = clouds(m=m)
    found = wasserstein(x, y, p)
    peer = ot.emd2([], [], np.linalg.norm(x[:, None] - y, axis=2) ** p, numItermax=10**7) ** (1 / p)
    assert found.value == pytest.approx(peer, rel=1e-9)
    assert found.gap == 0.0
    assert found.method == ("assignment" if m == 150 else "network_simplex")


def test_weights_equal_pot():
    x, y = clouds(60, 60)
    a, b = np.random.default_rng(1).random((2, 60))
    found = wasserstein(x, y, x_weights=a, y_weights=b)
    assert found.value**2 == pytest.approx(ot.emd2(a / a.sum(), b / b.sum(), ot.dist(x, y)), rel=1e-9)
    assert found.gap == 0.0


def test_only_the_proportions_of_weights_count():
    x, y = clouds(30, 20)
    a = np.random.default_rng(1).random(30)
    expected = wasserstein(x, y, x_weights=a).value
    assert wasserstein(x, y, x_weights=1e308 * a).value == pytest.approx(expected, rel=1e-9)


def test_both_exact_solvers_agree():
    x, y = clouds()
    first, second = (wasserstein(x, y, method=method) for method in ("assignment", "network_simplex"))
    assert first.value == pytest.approx(second.value, rel=1e-10)
    np.testing.assert_allclose(np.square(x - y[first.columns]).sum() / len(x), first.value**2, rtol=1e-12)


def test_one_dimension_is_scipys():
    x, y = clouds(width=1, m=63)
    found = wasserstein(x[:, 0], y[:, 0], p=1)
    assert found.method == "quantiles"
    assert found.value == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]), rel=1e-12)


def test_a_shift_moves_every_point_by_it():
    x, _ = clouds()
    assert wasserstein(x, x + np.array([3.0, 4, 0, 0, 0, 0])).value == pytest.approx(5, rel=1e-12)


def test_two_points_by_hand():
    assert wasserstein([[0.0, 0.0]], [[3.0, 4.0]]).value == 5.0
    assert wasserstein([[0.0, 0.0]], [[3.0, 4.0], [0.0, 0.0]], 1).value == pytest.approx(2.5)


def test_tensors_and_bfloat16_are_taken():
    x, y = clouds(20, 20)
    assert wasserstein(torch.from_numpy(x), torch.from_numpy(y)).value == wasserstein(x, y).value
    coarse = wasserstein(torch.from_numpy(x).bfloat16(), torch.from_numpy(y).bfloat16()).value
    assert coarse == pytest.approx(wasserstein(x, y).value, rel=0.02)


def test_minibatches_have_their_own_name_and_bias():
    x, _ = clouds(400)
    y, _ = clouds(400, seed=1)
    exact, batches = wasserstein(x, y), wasserstein(x, y, method="minibatch", batch=40)
    assert batches.method == "minibatch"
    assert math.isnan(batches.gap)
    assert batches.value > exact.value


@pytest.mark.filterwarnings("ignore:numItermax")
def test_an_unfinished_network_simplex_is_an_error():
    x, y = clouds(80, 60)
    with pytest.raises(MemfastError, match="stopped before the optimum"):
        wasserstein(x, y, method="network_simplex", maximum_iterations=5)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x": np.array([[0.0, np.nan], [1, 1]])}, "x: expected finite values, received a NaN or an infinity in row 0"),
        ({"y": np.ones((3, 5))}, "y: expected 2 features per row, as x has, received 5"),
        ({"x": np.empty((0, 2))}, "x: expected at least 1 row, received 0"),
        ({"x": np.array([["a", "b"]])}, "x: expected real numbers"),
        ({"p": 0.5}, "p: expected a finite number of at least 1, received 0.5"),
        ({"method": "guess"}, "method: expected one of auto"),
        ({"method": "assignment", "x": np.ones((3, 2))}, "equal sizes and no weights"),
        ({"method": "sorting"}, "one feature per row"),
        ({"projections": 5}, "options of method 'assignment' \\(none\\), received projections"),
        ({"method": "sliced", "projections": 0}, "projections: expected a whole number of at least 1"),
        ({"method": "minibatch"}, "batch: expected a whole number from 1 to 2"),
        ({"x_weights": [1.0]}, "x_weights: expected one weight per row"),
        ({"x_weights": ["a", "b"]}, "x_weights: expected real numbers"),
    ],
)
def test_bad_input(change, text):
    arguments = {"x": np.ones((2, 2)), "y": np.zeros((2, 2)), **change}
    with pytest.raises(InputError, match=text):
        wasserstein(arguments.pop("x"), arguments.pop("y"), **arguments)


@pytest.mark.parametrize(
    ("offset", "noise"), [(0.0, 1e-6), (1e3, 1e-6), (1e6, 1e-3), (1e6, 1e-9), (-1e3, 1.0)], ids=str
)
def test_near_copies_far_from_zero_keep_their_digits(offset, noise):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 4)) * (noise if offset == 1e6 else 1) + offset
    y = generator.permutation(x + noise * generator.normal(size=x.shape))
    costs = np.square(x[:, None] - y[None]).sum(-1)
    rows, columns = scipy.optimize.linear_sum_assignment(costs)
    assert wasserstein(x, y).value == pytest.approx(np.sqrt(costs[rows, columns].mean()), rel=1e-9, abs=0)


def test_an_outlier_does_not_round_the_distances_of_the_others():
    x = np.random.default_rng(0).normal(size=(100, 4))
    x[0] *= 1e8
    y = x[::-1] + 1e-3
    costs = np.square(x[:, None] - y[None]).sum(-1)
    rows, columns = scipy.optimize.linear_sum_assignment(costs)
    assert wasserstein(x, y).value == pytest.approx(np.sqrt(costs[rows, columns].mean()), rel=1e-9, abs=0)


@pytest.mark.parametrize("p", [1, 2, 4, 20])
@pytest.mark.parametrize("exponent", [-530, -30, 60, 500], ids=str)
@pytest.mark.parametrize("method", ["sorting", "quantiles", "assignment", "network_simplex", "minibatch"])
def test_scale_scales_the_value(method, exponent, p):
    x, y = clouds(
        40, 40 if method in ("sorting", "assignment") else 30, width=1 if method in ("sorting", "quantiles") else 4
    )
    options = {"method": method, **({"batch": 20} if method == "minibatch" else {})}
    expected, found = wasserstein(x, y, p, **options), wasserstein(x * 2.0**exponent, y * 2.0**exponent, p, **options)
    assert found.value == pytest.approx(2.0**exponent * expected.value, rel=1e-9, abs=0)
    if method == "minibatch":
        error = 2.0**exponent * expected.details["standard_error"]
        assert found.details["standard_error"] == pytest.approx(error, rel=1e-9, abs=0)
    elif p <= 4:
        assert found.gap == 0.0


def test_a_bound_that_rounding_spoils_is_not_called_exact():
    # The costs of this exponent span 88 powers of ten: no potentials in float64 can prove anything of the small ones.
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((60, 8)), generator.standard_normal((60, 8)) + 0.1
    distances = np.linalg.norm(x[:, None] - y, axis=2)
    costs = (distances / distances.max()) ** 200
    best = distances.max() * costs[scipy.optimize.linear_sum_assignment(costs)].mean() ** (1 / 200)
    found = wasserstein(x, y, 200)
    assert found.value - found.gap <= best * (1 + 1e-9)


def test_exponents_beyond_float64_are_refused():
    x, y = clouds(30, 30)
    with pytest.raises(InputError, match="p: expected an exponent with which float64 holds all costs"):
        wasserstein(x, x + 1e-3 * y, 400, method="network_simplex")
    x[0] += 1e6
    with pytest.raises(InputError, match=r"p: expected an exponent .* times the typical one, received 600"):
        wasserstein(x, y, 600)
    assert wasserstein(y, y[::-1].copy(), 20).value == 0.0
