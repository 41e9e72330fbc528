import numpy as np
import pytest
from scipy.stats import binom

from memfast.foundation.errors import InputError
from memfast.metrics import bootstrap_mean


def test_shares_follow_the_binomial():
    values = np.repeat([0, 1], [270, 30])
    low, high = bootstrap_mean(values, resamples=100_000)
    assert (300 * low, 300 * high) == pytest.approx(binom.interval(0.95, 300, 0.1), abs=1.01)


def test_means_follow_the_normal_limit():
    values = np.random.default_rng(0).standard_normal(400)
    low, high = bootstrap_mean(values)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_a_rare_third_value_is_not_overlooked():
    values = np.zeros(1000)
    values[3], values[501] = 1.0, 500.0
    assert bootstrap_mean(values).high > 0.9


@pytest.mark.parametrize("values", [[2.0], [0.5] * 9])
def test_constant_values_have_no_width(values):
    assert bootstrap_mean(values) == (values[0], values[0])


@pytest.mark.parametrize(
    ("values", "text"), [([], "at least 1 row, received 0"), ([1.0, np.nan], "a NaN or an infinity in row 1")]
)
def test_no_values(values, text):
    with pytest.raises(InputError, match=f"values: .*{text}"):
        bootstrap_mean(values)
