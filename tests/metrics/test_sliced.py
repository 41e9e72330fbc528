import numpy as np
import ot
import pytest
import torch

from memfast.foundation.errors import InputError
from memfast.metrics import wasserstein
from memfast.metrics.sliced import random_directions


def clouds(n=200, m=200, width=7, dtype=np.float64):
    generator = np.random.default_rng(0)
    return generator.standard_normal((n, width)).astype(dtype), (generator.standard_normal((m, width)) + 0.3).astype(
        dtype
    )


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("m", [200, 130])
def test_equals_pot_on_the_same_directions(m, p):
    x, y = clouds(m=m)
    directions = random_directions(7, 50, seed=3)
    peer = ot.sliced_wasserstein_distance(x, y, projections=directions.numpy().T, p=p)
    assert wasserstein(x, y, p, method="sliced", directions=directions).value == pytest.approx(peer, rel=1e-12)


def test_float32_agrees_with_float64():
    x, y = clouds(dtype=np.float32)
    narrow, wide = (wasserstein(a, b, method="sliced").value for a, b in ((x, y), (x.astype(float), y.astype(float))))
    assert narrow == pytest.approx(wide, rel=1e-5)


def test_weights_equal_repeated_rows():
    x, y = clouds(20, 30)
    repeats = np.arange(20) % 3 + 1
    weighted = wasserstein(x, y, method="sliced", x_weights=repeats)
    repeated = wasserstein(np.repeat(x, repeats, axis=0), y, method="sliced")
    assert weighted.value == pytest.approx(repeated.value, rel=1e-12)


def test_directions_are_unit_and_repeat():
    directions = random_directions(9, 40, seed=5)
    np.testing.assert_allclose(directions.norm(dim=1), 1, rtol=1e-14)
    assert torch.equal(directions, random_directions(9, 40, seed=5))
    assert not torch.equal(directions, random_directions(9, 40, seed=6))


def test_max_sliced_finds_a_planted_direction():
    """The sets differ along one coordinate only, by 3: no direction beats it."""
    x, _ = clouds(width=30)
    y = x.copy()
    y[:, 4] += 3
    assert wasserstein(x, y, method="max_sliced", projections=16).value == pytest.approx(3, rel=1e-6)


def test_max_sliced_beats_many_random_directions():
    x, y = clouds(width=20)
    y[:, 0] *= 3
    found = wasserstein(x, y, method="max_sliced").value
    assert found >= ot.max_sliced_wasserstein_distance(x, y, n_projections=3000, seed=0)
    assert found <= wasserstein(x, y).value + 1e-9


def test_standard_error_covers_the_limit():
    x, y = clouds()
    limit = wasserstein(x, y, method="sliced", projections=20000).value
    found = wasserstein(x, y, method="sliced", projections=400, seed=1)
    assert abs(found.value - limit) < 4 * found.details["standard_error"]


def test_directions_of_another_width():
    with pytest.raises(InputError, match="directions"):
        wasserstein(*clouds(), method="sliced", directions=random_directions(3, 5))
