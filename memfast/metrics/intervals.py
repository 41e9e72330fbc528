"""Intervals of means and of shares, cheap enough to be always there."""

from typing import Any

import numpy as np

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.foundation.proportions import Interval, clopper_pearson
from memfast.metrics.arrays import as_vector

RESAMPLES = 1000
CONFIDENCE = 0.95
DRAWS_AT_ONCE = 1 << 22


def share_interval(flags: Any, *, confidence: float = CONFIDENCE) -> Interval:
    """Clopper and Pearson's interval of the share of True among ``flags`` ``[n]``.

    It has a width at 0 and 1, and never covers less than promised; Wilson's covers 88 % of shares of 0.1 in a hundred.

    Raises:
        InputError: no flags, or values other than True and False.

    >>> [round(end, 3) for end in share_interval([False] * 20)]
    [0.0, 0.168]
    """
    values = as_vector("flags", flags)
    if not np.isin(values, (0, 1)).all():
        raise InputError("flags", expected="True and False", received="other values")
    return clopper_pearson(int(values.sum()), len(values), confidence)


def bootstrap_mean(
    values: Any, *, resamples: int = RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """The percentile bootstrap interval of the mean of ``values`` ``[n]`` under resampling of the items.

    Where ``values`` takes two values only, a resampled mean is a binomial count and is drawn as such: the same
    distribution at a thousandth of the cost. Where all values are equal the interval has no width, which says nothing
    about other samples: for a share use `share_interval`.

    Raises:
        InputError: no values, one that is not finite, or more than one number per item.

    >>> bootstrap_mean([1.0, 1.0, 1.0])
    Interval(low=1.0, high=1.0)
    """
    whole_number("resamples", resamples, least=1)
    finite_number("confidence", confidence, above=0, below=1)
    values = as_vector("values", values)
    generator = np.random.default_rng(whole_number("seed", seed, least=0))
    levels = np.unique(values[:: max(1, len(values) // 64)])
    tail = (1 - confidence) / 2
    if len(levels) <= 2 and np.isin(values, levels).all():
        share = generator.binomial(len(values), float((values == levels[-1]).mean()), resamples) / len(values)
        means = levels[0] + share * (levels[-1] - levels[0]) if len(levels) == 2 else np.full(resamples, levels[0])
    else:
        means = np.concatenate(
            [
                values[generator.integers(0, len(values), (count, len(values)), np.int32)].mean(axis=1)
                for count in _chunks(resamples, max(1, DRAWS_AT_ONCE // len(values)))
            ]
        )
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(high))


def mean_interval(values: Any, *, seed: int = 0) -> Interval | None:
    """`bootstrap_mean` of values that are no share, or None where all are equal: no width would claim certainty."""
    interval = bootstrap_mean(values, seed=seed)
    return None if interval.low == interval.high else interval


def _chunks(total: int, step: int) -> list[int]:
    return [min(step, total - start) for start in range(0, total, step)]
