"""ROC figures against scikit-learn, brute force, a bootstrap and simulated coverage."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from memfast.detectors import roc
from memfast.detectors.roc_curve import _de_long
from memfast.foundation.errors import InputError


def problem(seed, n=63, m=41, shift=1.0, levels=None):
    generator = np.random.default_rng(seed)
    scores = np.concatenate([generator.normal(shift, 1, n), generator.normal(0, 1, m)])
    if levels:
        scores = np.round(scores * levels) / levels
    return scores, np.arange(n + m) < n


@pytest.mark.parametrize("levels", [None, 4, 1], ids=["distinct", "ties", "many-ties"])
@pytest.mark.parametrize("seed", range(5))
def test_curve_and_area_are_scikit_learns(seed, levels):
    scores, truth = problem(seed, levels=levels)
    found = roc(scores, truth)
    assert found.auc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    fpr, tpr, thresholds = roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.fpr, fpr, atol=1e-12)
    np.testing.assert_allclose(found.tpr, tpr, atol=1e-12)
    np.testing.assert_array_equal(found.thresholds, thresholds)
    shuffled = np.random.default_rng(1).permutation(len(scores))
    assert roc(scores[shuffled], truth[shuffled]).to_dict() == found.to_dict()


@pytest.mark.parametrize("levels", [None, 3])
@pytest.mark.parametrize("fpr", [0.0, 0.01, 0.05, 0.2, 1.0])
def test_tpr_at_is_the_best_of_all_thresholds(fpr, levels):
    scores, truth = problem(3, 57, 150, levels=levels)
    found = roc(scores, truth)
    best = 0.0
    for threshold in [np.inf, *scores]:
        flagged = scores >= threshold
        if flagged[~truth].sum() <= found.false_positives_at(fpr):
            best = max(best, flagged[truth].mean())
    value, (low, high) = found.tpr_at(fpr)
    assert value == best
    assert low <= value <= high


def test_one_percent_of_fewer_than_a_hundred_is_none():
    scores, truth = problem(0, 30, 99)
    assert roc(scores, truth).false_positives_at(0.01) == 0
    assert roc(scores, truth).tpr_at(0.01)[0] == (scores[truth] > scores[~truth].max()).mean()
    scores, truth = problem(0, 30, 100)
    assert roc(scores, truth).false_positives_at(0.01) == 1
    assert roc(scores, truth).false_positives_at(0.29) == 29


def test_the_best_accuracy_is_that_of_brute_force():
    for levels in (None, 2):
        scores, truth = problem(8, 30, 70, levels=levels)
        accuracy, threshold = roc(scores, truth).best_accuracy()
        assert accuracy == pytest.approx(max(((scores >= t) == truth).mean() for t in [np.inf, *scores]))
        assert ((scores >= threshold) == truth).mean() == pytest.approx(accuracy)


def test_de_long_is_about_the_bootstrap():
    scores, truth = problem(11, 120, 90, shift=0.8)
    generator = np.random.default_rng(0)
    positive, negative = scores[truth], scores[~truth]
    areas = [(generator.choice(positive, 120)[:, None] > generator.choice(negative, 90)).mean() for _ in range(2000)]
    low, high = roc(scores, truth).auc_interval
    assert low == pytest.approx(np.quantile(areas, 0.025), abs=0.015)
    assert high == pytest.approx(np.quantile(areas, 0.975), abs=0.015)


def test_de_longs_variance_is_that_of_its_definition():
    """The placement values by their double loop."""
    scores, truth = problem(5, 17, 12, levels=2)
    positive, negative = scores[truth], scores[~truth]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    variance = wins.mean(axis=1).var(ddof=1) / 17 + wins.mean(axis=0).var(ddof=1) / 12
    area, found = _de_long(np.sort(positive), np.sort(negative))
    assert area == pytest.approx(wins.mean())
    assert found == pytest.approx(variance)


@pytest.mark.parametrize("exponential", [False, True], ids=["normal", "exponential"])
@pytest.mark.parametrize("area", [0.9, 0.95, 0.99])
def test_the_interval_covers_areas_near_one(area, exponential):
    """20 of each: DeLong's own interval covers 79 to 91 % of these; 300 problems leave an error of 1.3 %."""
    from scipy import stats

    draw, held = np.random.default_rng(0), 0
    truth = np.arange(40) < 20
    for _ in range(300):
        if exponential:
            scores = draw.exponential(np.where(truth, area / (1 - area), 1.0))
        else:
            scores = draw.normal(np.where(truth, stats.norm.ppf(area) * 2**0.5, 0.0))
        low, high = roc(scores, truth, resamples=1).auc_interval
        held += low <= area <= high
    assert held >= 0.92 * 300


def test_masks_are_refused():
    with pytest.raises(InputError, match="scores: expected an array without a mask"):
        roc(np.ma.masked_array([0.1, 0.2], mask=[True, False]), [True, False])


@pytest.mark.parametrize(("n", "m"), [(20, 30), (63, 500)])
def test_the_intervals_cover_the_truth(n, m):
    """200 problems with known area and known rate at 10 %: the intervals hold 95 % of them, give or take 5 %."""
    from scipy import stats

    area, rate = stats.norm.cdf(1 / 2**0.5), stats.norm.sf(stats.norm.isf(0.1) - 1.0)
    held = held_rate = 0
    for seed in range(200):
        found = roc(*problem(seed, n, m), resamples=200)
        held += found.auc_interval[0] <= area <= found.auc_interval[1]
        low, high = found.tpr_at(0.1)[1]
        held_rate += low <= rate <= high
    assert held / 200 >= 0.9
    assert held_rate / 200 >= 0.9


def test_a_perfect_detector_keeps_an_interval():
    found = roc([1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 1, 1])
    assert found.auc == 1.0
    assert found.auc_interval[0] < 0.6
    assert found.auc_interval[1] == 1.0
    value, (low, high) = found.tpr_at(0.01)
    assert (value, high) == (1.0, 1.0)
    assert low == pytest.approx(0.4385, abs=1e-3)  # Wilson's lower end of 3 of 3
    worst = roc([1, 2, 3, 4, 5, 6], [1, 1, 1, 0, 0, 0])
    assert worst.auc_interval == pytest.approx((0.0, 1 - found.auc_interval[0]))
    wider = roc(np.arange(60), np.arange(60) >= 30)
    assert wider.auc_interval[0] > 0.9


def test_one_of_each_is_enough_to_say_that_nothing_is_known():
    low, high = roc([0.0, 1.0], [False, True]).auc_interval
    assert low < 0.25
    assert high == 1.0


def test_the_dictionary_is_strict_json():
    scores, truth = problem(2)
    content = json.loads(json.dumps(roc(scores, truth).to_dict(), allow_nan=False))
    assert content["positives"] == 63
    assert content["tpr_at_fpr"]["fpr"] == 0.01
    assert content["roc"]["fpr"][0] == 0.0


@pytest.mark.parametrize(
    ("scores", "truth", "text"),
    [
        ([1.0, np.nan], [True, False], "scores: expected numbers, received 1 NaN"),
        ([1.0, 2.0], [True, True], "received 2 memorized and 0 others"),
        ([1.0], [True, False], r"memorized: expected one flag per score, received \[2\]"),
        ([1.0, 2.0], [1, 2], "memorized: expected True and False"),
        ([], [], "received 0 memorized and 0 others"),
        (["a", "b"], [1, 0], "scores: expected numbers, received dtype <U1"),
    ],
)
def test_bad_input_is_refused_in_words(scores, truth, text):
    with pytest.raises(InputError, match=text):
        roc(scores, truth)


def test_bad_shares_are_refused_in_words():
    with pytest.raises(InputError, match="fpr: expected a finite number from 0 to 1"):
        roc([0.0, 1.0], [0, 1]).tpr_at(1.5)
    with pytest.raises(InputError, match="confidence: expected a finite number above 0 and below 1"):
        roc([0.0, 1.0], [0, 1], confidence=95)
    for option, value in (("resamples", 0), ("seed", -1)):
        with pytest.raises(InputError, match=f"{option}: expected a whole number of at least"):
            roc([0.0, 1.0], [0, 1], **{option: value})
