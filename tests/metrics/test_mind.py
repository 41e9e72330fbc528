"""MIND against POT's sliced distance on the same directions, and its definition."""

import numpy as np
import pytest

from memfast.foundation.errors import InputError
from memfast.metrics import mind


def test_it_is_a_scaled_sliced_distance():
    ot = pytest.importorskip("ot", reason="POT is not installed")
    draw = np.random.default_rng(0)
    x, y = draw.standard_normal((80, 5)), 1.3 * draw.standard_normal((80, 5)) + 0.4
    directions = draw.standard_normal((40, 5))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    expected = 3 * 5 * ot.sliced_wasserstein_distance(x, y, projections=directions.T) ** 2
    assert mind(x, y, directions=directions) == pytest.approx(expected, rel=1e-10)


def test_a_shift_has_three_times_its_square():
    """The mean over the sphere of the squared cosine is 1/d, so 3 d times it is 3."""
    x = np.random.default_rng(1).standard_normal((50, 8))
    assert mind(x, x + 2 / np.sqrt(8), projections=20_000) == pytest.approx(12, rel=0.02)


def test_the_larger_set_is_cut():
    x = np.random.default_rng(2).standard_normal((500, 3))
    assert mind(x, x[:40], projections=50) > 0
    assert mind(x, x, projections=50) == 0
    with pytest.raises(InputError, match="projections"):
        mind(x, x, projections=0)
