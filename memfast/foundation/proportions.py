"""Shares and how sure they are: a count out of a total, with Wilson's, exact and bootstrap intervals."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from memfast.foundation.arguments import finite_number, whole_number

DEFAULT_CONFIDENCE = 0.95
DEFAULT_RESAMPLES = 1000


class Interval(NamedTuple):
    """A confidence interval.

    Attributes:
        low: its lower end.
        high: its upper end.
    """

    low: float
    high: float


@dataclass(frozen=True)
class Proportion:
    """A count out of a total.

    Attributes:
        count: how many were flagged.
        total: how many were tested.
        fraction: ``count / total``.
        wilson: Wilson's interval; good coverage at every size, and the one shown by default.
        clopper_pearson: the exact interval; never covers less than promised.
        bootstrap: the percentile bootstrap; at 0 and 1, where resampling shows nothing, the exact interval.
    """

    count: int
    total: int
    fraction: float
    wilson: Interval
    clopper_pearson: Interval
    bootstrap: Interval

    @classmethod
    def of(
        cls,
        count: int,
        total: int,
        *,
        confidence: float = DEFAULT_CONFIDENCE,
        resamples: int = DEFAULT_RESAMPLES,
        seed: int = 0,
    ) -> "Proportion":
        """``count`` of ``total`` with its three intervals.

        >>> Proportion.of(5, 100).fraction
        0.05
        """
        return cls(
            int(count),
            int(total),
            count / total,
            wilson(count, total, confidence),
            clopper_pearson(count, total, confidence),
            bootstrap(count, total, confidence, resamples=resamples, seed=seed),
        )


def wilson(count: int, total: int, confidence: float = DEFAULT_CONFIDENCE) -> Interval:
    """Wilson's score interval of a fraction.

    Args:
        count: how many were flagged.
        total: how many were tested, at least 1.
        confidence: the coverage, between 0 and 1.

    Returns:
        The lower and the upper end, within [0, 1].

    Source: Wilson 1927, J. Am. Stat. Assoc. 22, 209-212.

    >>> [round(end, 4) for end in wilson(5, 100)]
    [0.0215, 0.1118]
    """
    from scipy import stats

    _check(count, total, confidence)
    z = stats.norm.isf((1 - confidence) / 2)
    share = count / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    low = 0.0 if count == 0 else max(0.0, centre - half)
    high = 1.0 if count == total else min(1.0, centre + half)
    return Interval(float(low), float(high))


def clopper_pearson(count: int, total: int, confidence: float = DEFAULT_CONFIDENCE) -> Interval:
    """Clopper and Pearson's exact interval: it never covers less than promised, which matters where counts are small.

    Args and returns as for `wilson`. Source: Clopper and Pearson 1934, Biometrika 26, 404-413.

    >>> [round(end, 4) for end in clopper_pearson(0, 100)]
    [0.0, 0.0362]
    """
    from scipy import stats

    _check(count, total, confidence)
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(stats.beta.ppf(tail, count, total - count + 1))
    high = 1.0 if count == total else float(stats.beta.ppf(1 - tail, count + 1, total - count))
    return Interval(low, high)


def bootstrap(
    count: int,
    total: int,
    confidence: float = DEFAULT_CONFIDENCE,
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a fraction.

    Drawing ``total`` flags with replacement and counting them is one binomial draw, so each resample takes one number,
    not a pass over the flags. Where no flag or every flag is set all resamples are alike, which would claim certainty:
    the interval is then that of `clopper_pearson`.

    Args:
        count: how many were flagged.
        total: how many were tested, at least 1.
        confidence: the coverage, between 0 and 1.
        resamples: how many resamples, at least 1; 1,000 as in Bonnaire et al. 2025.
        seed: of NumPy's Philox generator: the same seed gives the same interval.

    >>> [round(end, 4) for end in bootstrap(0, 50)]
    [0.0, 0.0711]
    """
    _check(count, total, confidence)
    whole_number("resamples", resamples, least=1)
    if count in (0, total):
        return clopper_pearson(count, total, confidence)
    generator = np.random.Generator(np.random.Philox(seed))
    shares = generator.binomial(total, count / total, size=resamples) / total
    tail = (1 - confidence) / 2
    low, high = np.quantile(shares, [tail, 1 - tail])
    return Interval(float(low), float(high))


def difference(
    count: int, total: int, other_count: int, other_total: int, confidence: float = DEFAULT_CONFIDENCE
) -> Interval:
    """Newcombe's interval of the difference of two fractions, ``count/total - other_count/other_total``.

    Source: Newcombe 1998, Statistics in Medicine 17, 873-890, method 10 (from the two Wilson intervals).

    >>> [round(end, 4) for end in difference(56, 70, 48, 80)]
    [0.0524, 0.3339]
    """
    low, high = wilson(count, total, confidence)
    other_low, other_high = wilson(other_count, other_total, confidence)
    share, other = count / total, other_count / other_total
    centre = share - other
    return Interval(
        float(centre - np.hypot(share - low, other_high - other)),
        float(centre + np.hypot(high - share, other - other_low)),
    )


def _check(count: int, total: int, confidence: float) -> None:
    whole_number("total", total, least=1, words="a whole number, at least one tested sample")
    whole_number("count", count, least=0, greatest=total)
    finite_number("confidence", confidence, above=0, below=1)
