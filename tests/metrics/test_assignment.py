import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from memfast.metrics import assignment


def clouds(count, width=5, seed=0, copies=0):
    generator = np.random.default_rng(seed)
    x, y = generator.standard_normal((2, count, width))
    y[:copies] = x[:copies]
    y[count - copies // 2 :] = y[-1:]
    return x, y


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 63, 500])
def test_total_and_bound_equal_scipys_optimum(count, p):
    x, y = clouds(count)
    cost = np.linalg.norm(x[:, None] - y, axis=2) ** p
    best = cost[linear_sum_assignment(cost)].sum()
    found = assignment.optimal_assignment(x, y, p)
    assert found.total == pytest.approx(best, rel=1e-12)
    assert found.lower_bound == pytest.approx(best, rel=1e-12)
    assert sorted(found.columns) == list(range(count))


@pytest.mark.parametrize("p", [1, 2])
def test_copies_and_ties(p):
    x, y = clouds(300, copies=120)
    x[-60:] = x[0]
    found = assignment.optimal_assignment(x, y, p)
    peer = 300 * ot.emd2([], [], np.linalg.norm(x[:, None] - y, axis=2) ** p, numItermax=10**7)
    assert found.total == pytest.approx(peer, rel=1e-9)
    assert found.total - found.lower_bound <= 1e-12 * found.total


def test_equal_sets_cost_nothing():
    x, _ = clouds(80)
    found = assignment.optimal_assignment(x, x[::-1].copy(), 2)
    assert found.total == 0 == found.lower_bound


def test_all_points_equal():
    found = assignment.optimal_assignment(np.ones((50, 3)), np.zeros((50, 3)), 2)
    assert found.total == pytest.approx(150, rel=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_a_wrong_assignment_is_repaired(seed):
    """Whatever the float32 solver answers, the certificate ends at the optimum of the float64 costs."""
    x, y = clouds(60, seed=seed)
    cost = np.linalg.norm(x[:, None] - y, axis=2) ** 2
    wrong = np.random.default_rng(seed).permutation(60)
    exact = lambda rows, columns: cost[rows, columns]  # noqa: E731
    repaired = assignment._certify(torch.from_numpy(cost.astype(np.float32)), wrong, exact)
    assert repaired.total == pytest.approx(cost[linear_sum_assignment(cost)].sum(), rel=1e-12)
    assert repaired.lower_bound == pytest.approx(repaired.total, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-12, 1e9])
def test_units_do_not_matter(scale):
    x, y = clouds(100)
    plain, scaled = (assignment.optimal_assignment(s * x, s * y, 2).total for s in (1.0, scale))
    assert scaled == pytest.approx(plain * scale**2, rel=1e-12)


def test_float32_ties_are_broken_in_float64():
    """Costs that differ by less than float32 can hold: a far offset with tiny differences."""
    generator = np.random.default_rng(3)
    x = np.full((40, 4), 100.0) + 1e-4 * generator.standard_normal((40, 4))
    y = np.zeros((40, 4)) + 1e-4 * generator.standard_normal((40, 4))
    cost = ((x[:, None].astype(np.longdouble) - y) ** 2).sum(axis=2)
    best = float(cost[linear_sum_assignment((cost - 40000).astype(float))].sum())
    found = assignment.optimal_assignment(x, y, 2)
    assert found.total == pytest.approx(best, rel=1e-13)


def test_cost_blocks_keep_near_copies_apart():
    x = np.random.default_rng(0).uniform(0, 255, (30, 200))
    y = x + 1e-6
    cost = np.concatenate([block for _, block in assignment.cost_blocks(x, y, 2)])
    assert np.diag(cost) == pytest.approx(np.full(30, 200e-12), rel=1e-6)
