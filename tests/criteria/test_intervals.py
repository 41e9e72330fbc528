"""Intervals against scipy's and against published values; the bootstrap against a bootstrap of flags."""

import itertools

import numpy as np
import pytest
from scipy import stats

from memfast.criteria import bootstrap, clopper_pearson, closer_than, difference, share, wilson
from memfast.foundation.errors import InputError

COUNTS = [(0, 1), (1, 1), (0, 63), (5, 63), (63, 63), (17, 500), (9999, 10_000)]


@pytest.mark.parametrize(("count", "total"), COUNTS)
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(("method", "ours"), [("wilson", wilson), ("exact", clopper_pearson)])
def test_intervals_equal_scipy(count, total, confidence, method, ours):
    known = stats.binomtest(count, total).proportion_ci(confidence, method)
    np.testing.assert_allclose(ours(count, total, confidence), [known.low, known.high], rtol=1e-9, atol=1e-12)


def test_clopper_pearson_covers_at_least_what_it_promises():
    total = 30
    intervals = np.array([clopper_pearson(count, total) for count in range(total + 1)])
    for truth in np.linspace(0.01, 0.99, 25):
        covered = (intervals[:, 0] <= truth) & (truth <= intervals[:, 1])
        assert stats.binom.pmf(np.arange(total + 1), total, truth)[covered].sum() >= 0.95


@pytest.mark.parametrize(("count", "total"), [(3, 63), (250, 500), (480, 500)])
def test_bootstrap_equals_resampling_the_flags(count, total):
    flags = np.arange(total) < count
    draws = np.random.default_rng(3).integers(0, total, (20_000, total))
    known = np.quantile(flags[draws].mean(axis=1), [0.025, 0.975])
    found = bootstrap(count, total, resamples=20_000)
    np.testing.assert_allclose(found, known, atol=1.01 / total)


@pytest.mark.parametrize("total", [1, 20, 500])
def test_bootstrap_keeps_a_width_where_no_flag_or_every_flag_is_set(total):
    for count in (0, total):
        exact = stats.binomtest(count, total).proportion_ci(0.95, method="exact")
        assert bootstrap(count, total) == pytest.approx((exact.low, exact.high), abs=1e-12)
        assert share(count, total)["bootstrap"] == pytest.approx([exact.low, exact.high], abs=1e-12)


def test_bootstrap_covers_small_shares():
    """The plain percentile bootstrap covers 63 % of shares of 0.02 in 50: whatever finds no flag misses them."""
    intervals = np.array([bootstrap(count, 50) for count in range(51)])
    covered = (intervals[:, 0] <= 0.02) & (intervals[:, 1] >= 0.02)
    assert stats.binom.pmf(np.arange(51), 50, 0.02)[covered].sum() > 0.95


def test_bootstrap_repeats_with_its_seed():
    assert bootstrap(40, 500, seed=1) == bootstrap(40, 500, seed=1)
    assert len({bootstrap(40, 500, seed=seed, resamples=100) for seed in range(5)}) > 1


@pytest.mark.parametrize(
    ("counts", "known"),
    [((56, 70, 48, 80), (0.0524, 0.3339)), ((9, 10, 3, 10), (0.1705, 0.8090)), ((10, 10, 0, 10), (0.6075, 1.0))],
)
def test_difference_equals_newcombes_published_examples(counts, known):
    np.testing.assert_allclose(difference(*counts), known, atol=5e-5)


def test_permutation_test_equals_all_permutations():
    generated, held_out = np.array([0.1, 0.2, 0.35]), np.array([0.3, 0.4, 0.5, 0.6])
    values = np.concatenate([generated, held_out])
    ranks = stats.rankdata(values)
    sums = [ranks[list(chosen)].sum() for chosen in itertools.combinations(range(7), 3)]
    exact = np.mean(np.array(sums) <= ranks[:3].sum())
    found = closer_than(generated, held_out, permutations=20_000)
    assert abs(found["p_value"] - exact) < 4 * np.sqrt(exact / 20_000)
    u = stats.mannwhitneyu(generated, held_out, alternative="less").statistic
    assert found["closer"] == pytest.approx(1 - u / 12)


def test_permutation_test_is_calibrated_and_sees_copies():
    generator = np.random.default_rng(0)
    values = [
        closer_than(generator.normal(size=40), generator.normal(size=60), permutations=199, seed=seed)["p_value"]
        for seed in range(100)
    ]
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    assert closer_than(np.full(50, 0.1), generator.uniform(0.2, 1, 50))["p_value"] < 0.001
    assert closer_than(generator.uniform(0.5, 1, 50), np.full(50, 0.1))["p_value"] == 1.0


def test_share_holds_every_interval():
    found = share(5, 100)
    assert (found["count"], found["total"], found["fraction"]) == (5, 100, 0.05)
    assert found["wilson"] == list(wilson(5, 100))
    assert found["clopper_pearson"] == list(clopper_pearson(5, 100))
    assert found["bootstrap"] == list(bootstrap(5, 100))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: wilson(0, 0), "at least one tested sample, received 0"),
        (lambda: wilson(5, 4), "count: expected a whole number from 0 to 4, received 5"),
        (lambda: clopper_pearson(-1, 4), "received -1"),
        (lambda: bootstrap(1, 4, 1.5), "confidence: expected a finite number above 0 and below 1"),
        (lambda: closer_than(np.array([]), np.array([1.0])), "two sets of distances, received 0 and 1"),
    ],
)
def test_bad_input_is_named(call, text):
    with pytest.raises(InputError, match=text):
        call()
