"""Bootstrap intervals of means, cheap enough to be always there."""

from typing import Any, NamedTuple

import numpy as np

from memfast.foundation.arguments import finite_number, whole_number
from memfast.metrics.arrays import as_matrix

RESAMPLES = 1000
CONFIDENCE = 0.95
DRAWS_AT_ONCE = 1 << 22


class Interval(NamedTuple):
    """A percentile bootstrap interval."""

    low: float
    high: float


def bootstrap_mean(
    values: Any, *, resamples: int = RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """The interval of the mean of ``values`` ``[n]`` under resampling of the items.

    Where ``values`` takes two values only, a resampled mean is a binomial count and is drawn as such: the same
    distribution at a thousandth of the cost.

    Raises:
        InputError: no values, or one that is not finite.

    >>> bootstrap_mean([1.0, 1.0, 1.0])
    Interval(low=1.0, high=1.0)
    """
    whole_number("resamples", resamples, least=1)
    finite_number("confidence", confidence, above=0, below=1)
    values = as_matrix("values", values)[:, 0]
    generator = np.random.default_rng(whole_number("seed", seed, least=0))
    levels = np.unique(values[:: max(1, len(values) // 64)])
    tail = (1 - confidence) / 2
    if len(levels) <= 2 and np.isin(values, levels).all():
        share = generator.binomial(len(values), float((values == levels[-1]).mean()), resamples) / len(values)
        means = levels[0] + share * (levels[-1] - levels[0]) if len(levels) == 2 else np.full(resamples, levels[0])
    else:
        step = max(1, DRAWS_AT_ONCE // len(values))
        means = np.concatenate(
            [
                values[generator.integers(0, len(values), (min(step, resamples - start), len(values)), np.int32)].mean(
                    1
                )
                for start in range(0, resamples, step)
            ]
        )
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(high))
