import numpy as np
import ot
import pytest
import torch

from memfast.foundation.errors import InputError, MemfastError
from memfast.metrics import wasserstein


def clouds(n=120, m=90):
    generator = np.random.default_rng(0)
    return generator.standard_normal((n, 4)), generator.standard_normal((m, 4)) + 0.5


@pytest.mark.parametrize("p", [1, 2])
def test_cost_equals_pot(p):
    x, y = clouds()
    options = {"regularization": 0.7, "debiased": False, "tolerance": 1e-11}
    found = wasserstein(x, y, p, method="sinkhorn", **options)
    cost = np.linalg.norm(x[:, None] - y, axis=2) ** p
    peer = ot.solve(cost, reg=0.7, reg_type="KL", tol=1e-12, max_iter=100_000).value
    assert found.details["cost"] == pytest.approx(peer, rel=1e-8)


def test_debiased_equals_geomloss():
    from geomloss import SamplesLoss

    x, y = clouds()
    peer = SamplesLoss("sinkhorn", p=2, blur=1.0, scaling=0.9, debias=True, backend="tensorized")
    expected = 2 * float(peer(torch.from_numpy(x), torch.from_numpy(y)))
    found = wasserstein(x, y, method="sinkhorn", regularization=2.0, tolerance=1e-9)
    assert found.value**2 == pytest.approx(expected, rel=1e-3)


def test_tends_to_the_exact_distance():
    x, y = clouds(30, 30)
    exact = wasserstein(x, y).value
    found = [wasserstein(x, y, method="sinkhorn", regularization=r, debiased=False).value for r in (3.0, 1.0, 0.4)]
    assert found[0] > found[1] > found[2] > exact
    assert found[2] == pytest.approx(exact, rel=0.3)


def test_equal_sets_give_zero_when_debiased():
    x, _ = clouds()
    assert wasserstein(x, x, method="sinkhorn").value == pytest.approx(0, abs=1e-3)
    assert wasserstein(np.ones((4, 2)), np.ones((5, 2)), method="sinkhorn").value == 0


def test_weights_equal_repeated_rows():
    x, y = clouds(20, 30)
    repeats = np.arange(20) % 3 + 1
    options = {"method": "sinkhorn", "regularization": 1.0, "tolerance": 1e-12}
    weighted = wasserstein(x, y, x_weights=repeats, **options)
    assert weighted.value == pytest.approx(wasserstein(np.repeat(x, repeats, axis=0), y, **options).value, rel=1e-9)


def test_no_convergence_is_an_error():
    with pytest.raises(MemfastError, match="did not converge within 3"):
        wasserstein(*clouds(), method="sinkhorn", regularization=0.01, maximum_iterations=3)


def test_regularization_is_checked():
    with pytest.raises(InputError, match="regularization"):
        wasserstein(*clouds(), method="sinkhorn", regularization=0.0)


def random_problem(seed):
    """Clouds, copies, grids and shifts, of many sizes and units."""
    rng = np.random.default_rng(seed)
    n, m = rng.integers(2, 60, 2)
    width, kind = int(rng.integers(1, 5)), seed % 4
    x, y = rng.normal(size=(n, width)), rng.normal(size=(m, width)) + rng.normal()
    if kind == 1:
        y = x[rng.integers(0, n, m)] + 10 ** rng.uniform(-6, -1) * rng.normal(size=(m, width))
    elif kind == 2:
        x, y = np.round(2 * x), np.round(2 * y)
    elif kind == 3:
        y = x + 10 ** rng.uniform(-6, -1) * rng.normal(size=x.shape)
    unit = 10 ** rng.uniform(-6, 6)
    return unit * x, unit * y, [2, 2, 1][seed % 3]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("relative", [1e-2, 1e-4, 1e-6, 1e-8])
def test_small_regularizations_converge_above_the_exact_distance(relative):
    """Between W and W + regularization * (entropy of a coupling) lies every entropic cost: no other value passes."""
    for seed in range(40):
        x, y, p = random_problem(seed)
        costs = np.linalg.norm(x[:, None] - y, axis=2) ** p
        regularization = relative * costs.mean()
        exact = wasserstein(x, y, p).value ** p
        peer = ot.emd2([], [], costs / costs.mean(), numItermax=10**6) * costs.mean()
        assert exact == pytest.approx(peer, rel=1e-6, abs=1e-12 * costs.mean())
        options = {"method": "sinkhorn", "regularization": regularization, "debiased": False}
        found = wasserstein(x, y, p, **options).value ** p
        assert found >= exact * (1 - 1e-12), seed
        assert found <= (exact + regularization * np.log(max(len(x), len(y)))) * (1 + 2e-6), seed


@pytest.mark.parametrize("relative", [0.3, 0.1])
@pytest.mark.filterwarnings("ignore:Sinkhorn did not converge")
def test_random_problems_equal_pot(relative):
    compared = 0
    for seed in range(8):
        x, y, p = random_problem(seed)
        costs = np.linalg.norm(x[:, None] - y, axis=2) ** p
        peer = ot.solve(costs / costs.mean(), reg=relative, reg_type="KL", tol=1e-10, max_iter=1000)
        marginal = np.abs(peer.plan.sum(axis=1) - 1 / len(x)).sum() + np.abs(peer.plan.sum(axis=0) - 1 / len(y)).sum()
        if marginal > 1e-6:
            continue  # POT has not converged here
        options = {"method": "sinkhorn", "regularization": relative * costs.mean(), "debiased": False}
        found = wasserstein(x, y, p, **options).details["cost"] / costs.mean()
        assert found == pytest.approx(peer.value, rel=1e-5), seed
        compared += 1
    assert compared >= 6


@pytest.mark.timeout(60)
@pytest.mark.parametrize("relative", [1e-3, 1e-5])
def test_debiased_copies_tend_to_the_exact_distance(relative):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    y = x + 1e-3 * rng.normal(size=x.shape)
    costs = np.square(x[:, None] - y).sum(axis=-1)
    found = wasserstein(x, y, method="sinkhorn", regularization=relative * costs.mean())
    assert found.value == pytest.approx(wasserstein(x, y).value, rel=0.3)
    assert wasserstein(x, x, method="sinkhorn", regularization=relative).value == pytest.approx(0, abs=1e-6)


def test_streamed_and_held_costs_agree(monkeypatch):
    x, y = clouds()
    held = wasserstein(x, y, method="sinkhorn", tolerance=1e-9).value
    monkeypatch.setattr("memfast.metrics.sinkhorn.ENTRIES_AT_ONCE", 1000)
    assert wasserstein(x, y, method="sinkhorn", tolerance=1e-9).value == pytest.approx(held, rel=1e-8)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("limit", [200, 100_000])
@pytest.mark.parametrize("regularization", [1e-2, 1e-6, 1e-10])
def test_a_tolerance_beyond_float64_is_an_error(regularization, limit):
    x, y = clouds(20, 30)
    options = {"regularization": regularization, "tolerance": 1e-15, "maximum_iterations": limit}
    with pytest.raises(MemfastError, match="Sinkhorn cannot reach its tolerance"):
        wasserstein(x, y, method="sinkhorn", **options)


def test_streamed_problems_that_need_more_are_an_error(monkeypatch):
    monkeypatch.setattr("memfast.metrics.sinkhorn.ENTRIES_AT_ONCE", 1000)
    with pytest.raises(MemfastError, match="did not converge within 50 iterations"):
        wasserstein(*clouds(), method="sinkhorn", regularization=1e-4, maximum_iterations=50)


def test_rows_without_weight_do_not_count():
    x, y = clouds(20, 30)
    weights = np.arange(20.0)
    found = wasserstein(x, y, method="sinkhorn", x_weights=weights)
    assert found.value == pytest.approx(wasserstein(x[1:], y, method="sinkhorn", x_weights=weights[1:]).value, rel=1e-9)
