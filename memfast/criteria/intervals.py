"""Intervals for a fraction, and a permutation test: how sure a count of copies is."""

import numpy as np
from scipy import stats

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError

DEFAULT_CONFIDENCE = 0.95
DEFAULT_RESAMPLES = 1000
DEFAULT_PERMUTATIONS = 2000


def wilson(count: int, total: int, confidence: float = DEFAULT_CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a fraction.

    Good coverage on average at every size; the one shown by default.

    Args:
        count: how many were flagged.
        total: how many were tested.
        confidence: the coverage asked for, between 0 and 1.

    Returns:
        The lower and the upper end, within [0, 1].

    Source: Wilson 1927, J. Am. Stat. Assoc. 22, 209-212.

    >>> [round(end, 4) for end in wilson(5, 100)]
    [0.0215, 0.1118]
    """
    _check(count, total, confidence)
    z = stats.norm.isf((1 - confidence) / 2)
    share = count / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    low = 0.0 if count == 0 else max(0.0, centre - half)
    high = 1.0 if count == total else min(1.0, centre + half)
    return float(low), float(high)


def clopper_pearson(count: int, total: int, confidence: float = DEFAULT_CONFIDENCE) -> tuple[float, float]:
    """Clopper and Pearson's exact interval: it never covers less than promised, which counts where counts are small.

    Args and returns as for `wilson`. Source: Clopper and Pearson 1934, Biometrika 26, 404-413.

    >>> [round(end, 4) for end in clopper_pearson(0, 100)]
    [0.0, 0.0362]
    """
    _check(count, total, confidence)
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(stats.beta.ppf(tail, count, total - count + 1))
    high = 1.0 if count == total else float(stats.beta.ppf(1 - tail, count + 1, total - count))
    return low, high


def bootstrap(
    count: int,
    total: int,
    confidence: float = DEFAULT_CONFIDENCE,
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a fraction.

    Drawing ``total`` flags with replacement and counting them IS one binomial draw, so each resample costs one number,
    not a pass over the flags. Where no flag (or every flag) is set the bootstrap knows no spread: read the exact
    interval there.

    Args:
        count: how many were flagged.
        total: how many were tested.
        confidence: the coverage asked for.
        resamples: how many resamples; 1,000 as in Bonnaire et al. 2025.
        seed: of NumPy's Philox generator: the same seed gives the same interval.

    >>> bootstrap(0, 50)
    (0.0, 0.0)
    """
    _check(count, total, confidence)
    generator = np.random.Generator(np.random.Philox(seed))
    shares = generator.binomial(total, count / total, size=resamples) / total
    tail = (1 - confidence) / 2
    low, high = np.quantile(shares, [tail, 1 - tail])
    return float(low), float(high)


def difference(
    count: int, total: int, other_count: int, other_total: int, confidence: float = DEFAULT_CONFIDENCE
) -> tuple[float, float]:
    """Newcombe's interval of the difference of two fractions, ``count/total - other_count/other_total``.

    Source: Newcombe 1998, Statistics in Medicine 17, 873-890, method 10 (from the two Wilson intervals).

    >>> [round(end, 4) for end in difference(56, 70, 48, 80)]
    [0.0524, 0.3339]
    """
    low, high = wilson(count, total, confidence)
    other_low, other_high = wilson(other_count, other_total, confidence)
    share, other = count / total, other_count / other_total
    centre = share - other
    return (
        float(centre - np.hypot(share - low, other_high - other)),
        float(centre + np.hypot(high - share, other - other_low)),
    )


def closer_than(
    generated: np.ndarray, held_out: np.ndarray, *, permutations: int = DEFAULT_PERMUTATIONS, seed: int = 0
) -> dict[str, float | int]:
    """Permutation test: do generated samples lie closer to the training set than held-out data do?

    The statistic is the chance that a random generated sample is closer than a random held-out one (ties count half;
    Mann and Whitney's U divided by the number of pairs). Under the null hypothesis the two sets are exchangeable.

    Args:
        generated: distance of each generated sample to its nearest training item, ``[n]``.
        held_out: the same of each held-out item, ``[m]``, in the same units.
        permutations: random relabelings; the smallest possible p-value is ``1 / (permutations + 1)``.
        seed: of NumPy's Philox generator.

    Returns:
        ``closer``: the statistic, in [0, 1]; 0.5 says "as close as held-out data", above 0.5 closer, below farther.
        ``p_value``: one-sided. ``permutations``: how many.

    What it is not: a count of copies. A model that draws blurred averages is close to everything and copies nothing.

    >>> closer_than(np.array([1.0, 2.0]), np.array([3.0, 4.0]), permutations=99)["closer"]
    1.0
    """
    generated, held_out = np.asarray(generated, np.float64), np.asarray(held_out, np.float64)
    if not len(generated) or not len(held_out):
        raise InputError(
            "closer_than", expected="two sets of distances", received=f"{len(generated)} and {len(held_out)} distances"
        )
    ranks = stats.rankdata(np.concatenate([generated, held_out]))
    n, m = len(generated), len(held_out)
    observed = ranks[:n].sum()
    generator = np.random.Generator(np.random.Philox(seed))
    smaller = 0
    for _ in range(permutations):
        smaller += generator.permutation(ranks)[:n].sum() <= observed
    closer = 1 - (observed - n * (n + 1) / 2) / (n * m)
    return {
        "closer": float(closer), "p_value": float((smaller + 1) / (permutations + 1)), "permutations": permutations,
    }  # fmt: skip


def share(
    count: int,
    total: int,
    *,
    confidence: float = DEFAULT_CONFIDENCE,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> dict:
    """A count as a plain dictionary: count, total, fraction and the three intervals.

    >>> share(5, 100)["fraction"]
    0.05
    """
    return {
        "count": int(count),
        "total": int(total),
        "fraction": count / total,
        "wilson": list(wilson(count, total, confidence)),
        "clopper_pearson": list(clopper_pearson(count, total, confidence)),
        "bootstrap": list(bootstrap(count, total, confidence, resamples=resamples, seed=seed)),
    }


def _check(count: int, total: int, confidence: float) -> None:
    whole_number("total", total, least=1, words="at least one tested sample")
    whole_number("count", count, least=0, greatest=total)
    finite_number("confidence", confidence, above=0, below=1)
