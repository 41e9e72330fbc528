import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from memfast.foundation.errors import InputError
from memfast.metrics import wasserstein_per_dimension

numbers = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(numbers, numbers)
def test_w1_equals_scipy_for_any_sizes(x, y):
    assert wasserstein_per_dimension(x, y, p=1)[0] == pytest.approx(wasserstein_distance(x, y), rel=1e-9, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(numbers, numbers, st.integers(0, 1000))
def test_w1_equals_scipy_with_weights(x, y, seed):
    generator = np.random.default_rng(seed)
    a, b = generator.random(len(x)) + 1e-3, generator.random(len(y)) + 1e-3
    found = wasserstein_per_dimension(x, y, p=1, x_weights=a, y_weights=b)[0]
    assert found == pytest.approx(wasserstein_distance(x, y, a, b), rel=1e-9, abs=1e-8)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
@pytest.mark.parametrize("sizes", [(500, 500), (63, 500), (1, 7), (200, 300)])
def test_every_column_equals_pot(sizes, p):
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((sizes[0], 6)), generator.standard_normal((sizes[1], 6)) ** 3
    peer = ot.wasserstein_1d(x, y, p=p) ** (1 / p)
    np.testing.assert_allclose(wasserstein_per_dimension(x, y, p=p), peer, rtol=1e-12)


def test_zero_weights_leave_rows_out():
    found = wasserstein_per_dimension([0.0, 100.0, 1.0], [0.0, 1.0], p=2, x_weights=[1, 0, 1])
    assert found == pytest.approx([0.0])


def test_float32_stays_close_to_float64():
    x, y = np.random.default_rng(1).standard_normal((2, 4000, 3)).astype(np.float32)
    exact = wasserstein_per_dimension(x.astype(np.float64), y.astype(np.float64), p=2)
    np.testing.assert_allclose(wasserstein_per_dimension(x, y, p=2), exact, rtol=1e-6)


@pytest.mark.parametrize("p", [0.5, float("inf"), float("nan")])
def test_exponent_is_checked(p):
    with pytest.raises(InputError, match="at least 1"):
        wasserstein_per_dimension([0.0], [1.0], p=p)


def test_weights_are_checked():
    with pytest.raises(InputError, match="x_weights"):
        wasserstein_per_dimension([0.0, 1.0], [1.0], x_weights=[1.0])
    with pytest.raises(InputError, match="y_weights"):
        wasserstein_per_dimension([0.0], [1.0, 2.0], y_weights=[1.0, -1.0])
