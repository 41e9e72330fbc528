"""Two-sample tests against scikit-learn, against the definition, and by their p-values where nothing differs."""

import numpy as np
import pytest
from scipy import stats
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from memfast.foundation.errors import InputError
from memfast.metrics import kernel_distance, mmd_test, nearest_neighbor_accuracy


def test_accuracy_is_that_of_scikit_learn():
    draw = np.random.default_rng(0)
    x, y = draw.standard_normal((40, 3)), draw.standard_normal((40, 3)) + 1.5
    classifier = KNeighborsClassifier(1)
    right = cross_val_score(classifier, np.concatenate([x, y]), np.arange(80) < 40, cv=LeaveOneOut())
    found = nearest_neighbor_accuracy(x, y)
    assert found.accuracy == right.mean()
    assert (found.x_accuracy, found.y_accuracy) == (right[:40].mean(), right[40:].mean())
    assert found.p_value < 0.05


def test_copies_lie_below_one_half():
    x = np.random.default_rng(1).standard_normal((60, 5))
    found = nearest_neighbor_accuracy(x + 1e-3, x)
    assert found.accuracy == 0
    assert found.p_value < 0.01
    assert nearest_neighbor_accuracy(x, x[:50]).rows == 50


def test_the_discrepancies_are_the_unbiased_ones():
    draw = np.random.default_rng(2)
    x, y = draw.standard_normal((30, 4)), draw.standard_normal((45, 4)) + 0.3
    found = mmd_test(x, y, bandwidths=[0.7, 2.0])
    for bandwidth, value in zip([0.7, 2.0], found.discrepancies, strict=True):
        expected = kernel_distance(x, y, kernel="rbf", bandwidth=bandwidth, subsets=None).value
        assert value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("test", [mmd_test, nearest_neighbor_accuracy])
def test_p_values_are_uniform_where_nothing_differs(test):
    draw = np.random.default_rng(3)
    values = [
        test(draw.standard_normal((25, 2)), draw.standard_normal((25, 2)), permutations=99, seed=i).p_value
        for i in range(150)
    ]
    for level in (0.05, 0.2, 0.5):
        # A p-value may be larger than uniform where the statistic has few values, never smaller.
        assert np.mean(np.asarray(values) <= level) <= stats.binom.ppf(0.999, 150, level) / 150
    if test is mmd_test:
        assert stats.kstest(values, "uniform").pvalue > 0.001


def test_several_bandwidths_find_differences_of_any_scale():
    draw = np.random.default_rng(4)
    fine = (
        draw.integers(0, 2, (80, 1)) * 0.2 + draw.integers(0, 5, (80, 1)) * 3.0 + 0.02 * draw.standard_normal((80, 1))
    )
    smooth = 0.1 + draw.integers(0, 5, (80, 1)) * 3.0 + 0.02 * draw.standard_normal((80, 1))
    assert mmd_test(fine, smooth, bandwidths=[0.1, 1.0, 10.0]).p_value < 0.05
    assert mmd_test(smooth, smooth + 2).p_value < 0.01


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: mmd_test(np.ones((5, 2)), np.ones((5, 2))), "a median distance of 0"),
        (lambda: mmd_test(np.eye(3), np.eye(3), bandwidths=[1.0, 0.0]), "bandwidths: expected a finite number above 0"),
        (lambda: mmd_test(np.eye(3), np.eye(3), bandwidths=np.eye(2)), "bandwidths: expected one number per item"),
        (lambda: mmd_test(np.eye(3), np.eye(3), permutations=0), "permutations: expected a whole number of at least 1"),
        (lambda: nearest_neighbor_accuracy(np.eye(3), np.eye(3)[:1]), "y: expected at least 2 rows"),
    ],
)
def test_bad_input(call, text):
    with pytest.raises(InputError, match=text):
        call()
