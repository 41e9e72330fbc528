"""Intervals of a trace against scipy, and where there is nothing to say."""

import numpy as np
import pytest
from scipy import stats

from memfast.results.trace import Correlation
from memfast.trace.intervals import correlation, mean_over_seeds


@pytest.mark.parametrize("n", [4, 5, 63])
def test_the_correlation_is_pearsons_with_fishers_interval(n):
    x, y = np.random.Generator(np.random.Philox(n)).normal(size=(2, n))
    found, expected = correlation(x, x + y), stats.pearsonr(x, x + y)
    assert found.pearson == pytest.approx(expected.statistic, abs=1e-12)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)), abs=1e-12)
    assert found.n == n


def test_two_points_are_no_correlation():
    nan = float("nan")
    assert correlation([1.0, 2.0], [5.0, 3.0]) == Correlation(None, None, 2)
    assert correlation([1.0, 2.0, nan], [5.0, 3.0, 1.0]) == Correlation(None, None, 2)
    assert correlation([], []) == Correlation(None, None, 0)
    assert correlation([1.0, 1.0, 1.0, 1.0], [5.0, 3.0, 1.0, 2.0]) == Correlation(None, None, 4)
    assert correlation([1.0, 2.0, 3.0], [5.0, 3.0, 1.0]) == Correlation(-1.0, None, 3)


def test_one_seed_has_a_mean_and_no_interval():
    curve = mean_over_seeds([[2.0], [3.0]])
    assert curve.mean.tolist() == [2.0, 3.0]
    assert np.isnan(curve.low).all()
    assert np.isnan(curve.high).all()
