"""The integer thresholds, and draws through the real op against the exact probabilities."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from memfast import ops, schedules, timesteps
from memfast.foundation.errors import InputError
from memfast.timesteps import importance_weights, thresholds

DRAWS = 200_000


def _masses(table: np.ndarray) -> list[Fraction]:
    borders = [0, *(int(value) + 2**63 for value in table), 2**64]
    return [Fraction(b - a, 2**64) for a, b in pairwise(borders)]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40).filter(lambda values: sum(values) > 1e-3))
def test_thresholds_hold_the_probabilities(weights):
    p = np.array(weights) / np.sum(weights)
    table = thresholds(weights)
    last = int(np.flatnonzero(p > 0)[-1])  # a weight may be too small to leave any mass
    assert table.dtype == np.int64
    assert len(table) == last
    assert (table[1:] >= table[:-1]).all()
    for mass, expected in zip(_masses(table), p, strict=False):
        assert float(mass) == pytest.approx(expected, abs=len(weights) * 2**-52)
    assert all(mass == 0 for mass, weight in zip(_masses(table), weights, strict=False) if weight == 0)


def test_thresholds_of_powers_of_two_are_exact():
    assert thresholds([0.5, 0.5]).tolist() == [0]
    assert thresholds([0.25, 0, 0.25, 0.5, 0]).tolist() == [-(2**62), -(2**62), 0]
    assert thresholds([3.0]).tolist() == []
    assert thresholds([0, 0, 1]).tolist() == [-(2**63), -(2**63)]
    assert thresholds([1, 1e-30]).tolist() == [2**63 - 1]


@pytest.mark.parametrize("bad", [[], [0, 0], [1, float("nan")], [1, -1], [float("inf")]])
def test_thresholds_refuse(bad):
    with pytest.raises(InputError):
        thresholds(bad)


def test_importance_weights_make_every_density_uniform():
    p = timesteps.ConfidenceInterval(600, 1000).probabilities(1000)
    assert np.allclose(importance_weights(p) * p, 1 / 1000)
    assert importance_weights([0.5, 0.0, 0.5]).tolist() == [2 / 3, 0, 2 / 3]


@pytest.mark.parametrize(
    "density",
    [
        timesteps.Uniform(), timesteps.ConfidenceInterval(950, 1050), timesteps.Beta(0.5, 3), timesteps.Laplace(),
        timesteps.LogNormal(), timesteps.Mode(-0.7), timesteps.StudentT(30, 20), timesteps.SpeeD(),
        timesteps.Custom(np.arange(1000) % 7 == 3),
    ],
    ids=lambda density: density.name,
)  # fmt: skip
def test_draws_follow_the_probabilities(density):
    p = density.probabilities(schedules.linear(1000))
    drawn = ops.draw_timesteps(torch.from_numpy(thresholds(p)), torch.arange(DRAWS) + 7, ops.key(3, 11)).numpy()
    counts = np.bincount(drawn, minlength=1000)
    assert len(counts) == 1000
    assert counts[p == 0].sum() == 0
    # Pool bins until each expects at least 10 draws; keep the tails apart from the middle.
    kept = np.flatnonzero(p)
    counts_kept, p_kept = counts[kept], p[kept]
    edges = np.flatnonzero(np.diff(np.cumsum(p_kept * DRAWS) // 10, prepend=-1))
    observed, expected = np.add.reduceat(counts_kept, edges), np.add.reduceat(p_kept * DRAWS, edges)
    expected *= observed.sum() / expected.sum()
    assert stats.chisquare(observed, expected).pvalue > 1e-4
    for tail in (slice(0, 20), slice(980, 1000)):
        assert stats.binomtest(int(counts[tail].sum()), DRAWS, min(1.0, p[tail].sum())).pvalue > 1e-4


def test_stratified_draws_take_one_of_each_part():
    p = timesteps.ConfidenceInterval(600, 1000).probabilities(1000)
    table, B = torch.from_numpy(thresholds(p)), 500
    drawn = ops.draw_timesteps(table, torch.arange(B), ops.key(1, 2), positions=torch.arange(B), total=B).numpy()
    cumulative = np.concatenate([[0], np.cumsum(p)])
    part = np.arange(B) / B
    assert (cumulative[drawn] < part + 1 / B + 1e-12).all()
    assert (cumulative[drawn + 1] > part - 1e-12).all()
