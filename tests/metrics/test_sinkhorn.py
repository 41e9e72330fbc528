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
