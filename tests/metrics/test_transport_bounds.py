"""What `wasserstein` proves, against whole-number arithmetic and within time bounds, on sets made to spoil float64."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from memfast.metrics import wasserstein
from memfast.metrics.assignment import optimal_assignment
from memfast.metrics.pair_costs import cost_blocks, cost_rounding, costs_at, row_minima
from tests.metrics.exact_transport import exact_cost

CASES = 70


def ties(rng, n, m, d):
    base = rng.normal(size=(int(rng.integers(1, 4)), d)) * 10 ** rng.uniform(-3, 8)
    x = base[rng.integers(0, len(base), n)]
    return x, x[rng.integers(0, n, m)] + 10 ** rng.uniform(-14, 0) * rng.normal(size=(m, d))


def unbalanced_ties(rng, n, m, d):
    base = rng.normal(size=(int(rng.integers(1, 4)), d)) * 10 ** rng.uniform(-3, 8)
    noise = 10 ** rng.uniform(-14, 0) * rng.normal(size=(m, d))
    return base[rng.integers(0, len(base), n)], base[rng.integers(0, len(base), m)] + noise


def wide_scales(rng, n, m, d):
    x = rng.normal(size=(n, d)) * 10 ** rng.uniform(-9, 3, size=(n, 1))
    return x, x[rng.integers(0, n, m)] + 10 ** rng.uniform(-15, 0, size=(m, 1)) * rng.normal(size=(m, d))


def far_from_zero(rng, n, m, d):
    return 1e16 + np.round(4 * rng.normal(size=(n, d))), 1e16 + 2 * np.round(4 * rng.normal(size=(m, d)))


def grid(rng, n, m, d):
    return np.round(2 * rng.normal(size=(n, d))), np.round(2 * rng.normal(size=(m, d))) + 10 ** rng.uniform(-14, 0)


def repeated_copies(rng, n, m, d):
    x = rng.normal(size=(n, d)) * 10 ** rng.uniform(-9, 3, size=(n, 1))
    y = np.repeat(x, int(rng.integers(1, 4)), axis=0)
    return x, y + 10 ** rng.uniform(-15, -3) * rng.normal(size=y.shape)


FAMILIES = [ties, unbalanced_ties, wide_scales, far_from_zero, grid, repeated_copies]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("weighted", ["plain", "whole", "real"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_the_truth_lies_within_the_gap_and_the_bounds(family, weighted):
    open_gaps = 0
    for seed in range(CASES):
        rng = np.random.default_rng([seed, FAMILIES.index(family)])
        n, m = rng.integers(1, 8, 2)
        x, y = family(rng, n, n if seed % 2 else m, int(rng.integers(2, 4)))
        p, method = int(rng.choice([1, 2, 2, 3, 4])), str(rng.choice(["auto", "network_simplex"]))
        a = {"plain": None, "whole": rng.integers(1, 5, len(x)).astype(float), "real": rng.random(len(x))}[weighted]
        b = None if weighted != "real" else a.copy() if len(x) == len(y) else rng.random(len(y))
        found, truth = wasserstein(x, y, p, method=method, x_weights=a, y_weights=b), exact_cost(x, y, p, a, b)
        lower, upper = (Fraction(bound) ** p for bound in found.bounds)
        assert lower <= truth <= upper, (seed, found)
        value, gap = Fraction(found.value), Fraction(found.gap) + Fraction(found.value) / 10**12
        assert max(0, value - gap) ** p <= truth <= (value + gap) ** p, (seed, found)
        assert found.gap <= 1e-10 * found.value, (seed, found)
        open_gaps += found.gap > 0
    assert open_gaps <= 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize("noise", [1e-12, 1e-9, 1e-7, 1e-6, 1e-5])
@pytest.mark.parametrize("method", ["assignment", "network_simplex"])
@pytest.mark.parametrize("width", [2, 48])
def test_a_copied_set_with_duplicates_is_exact(method, noise, width):
    for seed in range(2):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(500, width))
        x[rng.permutation(500)[:10]] = x[rng.integers(0, 500, 10)]
        y = rng.permutation(x + noise * rng.normal(size=x.shape))
        costs = np.square(x[:, None] - y).sum(axis=-1)
        # Pairs beyond a thousandth of the spread are in no optimum here; capped, SciPy's potentials stay tiny.
        costs = np.minimum(costs / noise**2, 1e6)
        best = noise * np.sqrt(costs[linear_sum_assignment(costs)].mean())
        found = wasserstein(x, y, method=method)
        assert found.value == pytest.approx(best, rel=1e-12, abs=0)
        assert found.gap == 0.0


@pytest.mark.timeout(60)
@pytest.mark.parametrize("noise", [1e-12, 1e-7, 1e-5])
@pytest.mark.parametrize(("p", "width"), [(1, 2), (2, 2), (2, 784)])
def test_copies_with_real_weights_are_exact(noise, p, width):
    """Weights that no whole numbers of 53 bits hold: what is left of them would cost more than all the copies do."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, width))
    x[rng.permutation(200)[:4]] = x[rng.integers(0, 200, 4)]
    y, weights = x + noise * rng.normal(size=x.shape), rng.random(200)
    order = rng.permutation(200)
    found = wasserstein(x, y[order], p, x_weights=weights, y_weights=weights[order])
    kept = (weights / weights.sum() * np.linalg.norm(x - y, axis=1) ** p).sum()
    assert found.value <= kept ** (1 / p) * (1 + 1e-12)
    assert found.value >= 0.8 * kept ** (1 / p)
    assert found.gap == 0.0


def test_copies_whose_weights_are_in_proportion_to_rounding():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(6, 2))
    y, a = x + 1e-8 * rng.normal(size=x.shape), rng.random(6)
    for b in (a / 3, a / a.sum(), np.nextafter(a, 1)):
        found, truth = wasserstein(x, y, x_weights=a, y_weights=b), exact_cost(x, y, 2, a, b)
        assert Fraction(found.bounds[0]) ** 2 <= truth <= Fraction(found.bounds[1]) ** 2
        assert found.value == pytest.approx(float(truth) ** 0.5, rel=1e-12)


@pytest.mark.parametrize("largest", [2**12, 2**24, 2**40])
def test_large_whole_weights_without_a_common_sum(largest):
    rng = np.random.default_rng(2)
    for _ in range(10):
        x, y = rng.normal(size=(7, 2)), rng.normal(size=(5, 2))
        a, b = (rng.integers(1, largest, len(rows)).astype(float) for rows in (x, y))
        found, truth = wasserstein(x, y, x_weights=a, y_weights=b), exact_cost(x, y, 2, a, b)
        assert Fraction(found.bounds[0]) ** 2 <= truth <= Fraction(found.bounds[1]) ** 2
        assert found.gap == 0.0


@pytest.mark.timeout(20)
@pytest.mark.parametrize("count", [8, 60, 300])
@pytest.mark.parametrize("bases", [1, 2, 5])
def test_ties_with_tiny_noise_return(count, bases):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        base = rng.normal(size=(bases, 2))
        x = base[rng.integers(0, bases, count)]
        y = x + 1e-8 * rng.normal(size=x.shape)
        costs = np.minimum(np.square(x[:, None] - y).sum(axis=-1) * 1e16, 1e5)
        found = wasserstein(x, y)
        assert found.value == pytest.approx(1e-8 * np.sqrt(costs[linear_sum_assignment(costs)].mean()), rel=1e-12)
        assert found.gap == 0.0


@pytest.mark.timeout(20)
def test_the_case_that_never_returned():
    rng = np.random.default_rng(4)
    base = rng.normal(size=(2, 2))
    x = base[rng.integers(0, 2, 8)]
    y = x + 1e-8 * rng.normal(size=x.shape)
    found = wasserstein(x, y)
    assert Fraction(found.bounds[0]) ** 2 <= exact_cost(x, y, 2) <= Fraction(found.bounds[1]) ** 2
    assert found.gap == 0.0


@pytest.mark.timeout(60)
def test_two_scales_in_one_set():
    """Half the pairs cost 1 and half 1e-16: the second method must take over where float32 sees only ties."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    x[:150] = x[0]
    y = x + np.where(np.arange(300) < 150, 1e-4, 1.0)[:, None] * rng.normal(size=x.shape)
    costs = np.square(x[:, None] - y).sum(axis=-1)
    found = wasserstein(x, y)
    assert found.value == pytest.approx(np.sqrt(costs[linear_sum_assignment(costs)].mean()), rel=1e-12)
    assert found.gap == 0.0


def test_a_gap_never_exceeds_the_value():
    """Powers of distances that span 88 powers of ten: little can be proven, and the gap says so."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 8)), rng.standard_normal((60, 8)) + 0.1
    for method in ("assignment", "network_simplex"):
        found = wasserstein(x, y, 200, method=method)
        assert 0 <= found.gap <= found.value


@pytest.mark.parametrize("width", [1, 3, 200, 3000])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_rounding_of_pair_costs_is_bounded(width, p):
    rng = np.random.default_rng(width)
    x = rng.normal(size=(4, width)) * 10 ** rng.uniform(-3, 6)
    y = x[[1, 0, 3, 2]] + 1e-9 * rng.normal(size=x.shape)
    every, columns = np.arange(4), np.asarray([1, 0, 2, 3])
    costs = costs_at(x, y, p, every, columns)
    allowed = cost_rounding(width, p).of(costs)
    for i, j in zip(every, columns, strict=True):
        truth = exact_cost(x[[i]], y[[j]], p)
        assert abs(Fraction(float(costs[i])) - truth) <= Fraction(float(allowed[i]))


def test_row_minima_are_below_the_exact_ones_and_near():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 5))
    y = np.concatenate([x[:20] + 1e-9, rng.normal(size=(30, 5))])
    potentials = rng.normal(size=50)
    wide = np.square(x[:, None].astype(np.longdouble) - y).sum(axis=-1) - potentials
    found = row_minima(x, y, 2, potentials)
    assert (found <= wide.min(axis=1)).all()
    np.testing.assert_allclose(found, wide.min(axis=1).astype(float), rtol=1e-14, atol=1e-14)


def test_cost_blocks_keep_copies_far_from_their_mean():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 30)) + 1e3
    y = x + 1e-9 * rng.normal(size=x.shape)
    costs = np.concatenate([block for _, block in cost_blocks(x, y, 2)])
    np.testing.assert_allclose(np.diag(costs), np.square(x - y).sum(axis=1), rtol=1e-12)


def test_bounds_of_an_assignment_hold_its_total():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 30, 3))
    found = optimal_assignment(x, y, 2)
    assert found.lower_bound <= found.total <= found.upper_bound <= found.lower_bound * (1 + 1e-12)
