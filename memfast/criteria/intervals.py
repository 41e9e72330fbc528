"""How sure a count of copies is, and a permutation test of closeness to the training set.

`wilson`, `clopper_pearson`, `bootstrap` and `difference` stand in `memfast.foundation.proportions`.
"""

from typing import Any

import numpy as np

from memfast.foundation.arguments import whole_number
from memfast.foundation.arrays import plain_array
from memfast.foundation.errors import InputError
from memfast.foundation.proportions import (
    DEFAULT_CONFIDENCE,
    DEFAULT_RESAMPLES,
    Proportion,
    bootstrap,
    clopper_pearson,
    difference,
    wilson,
)
from memfast.foundation.values import plain

__all__ = [
    "DEFAULT_CONFIDENCE",
    "DEFAULT_PERMUTATIONS",
    "DEFAULT_RESAMPLES",
    "bootstrap",
    "clopper_pearson",
    "closer_than",
    "difference",
    "share",
    "wilson",
]

DEFAULT_PERMUTATIONS = 2000


def closer_than(
    generated: Any, held_out: Any, *, permutations: int = DEFAULT_PERMUTATIONS, seed: int = 0
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

    Raises:
        InputError: an empty set, more than one number per item, a NaN, an infinity or a mask; no permutation.

    What it is not: a count of copies. A model that draws blurred averages is close to everything and copies nothing.

    >>> closer_than(np.array([1.0, 2.0]), np.array([3.0, 4.0]), permutations=99)["closer"]
    1.0
    """
    from scipy import stats

    whole_number("permutations", permutations, least=1)
    whole_number("seed", seed, least=0)
    generated, held_out = _distances("generated", generated), _distances("held_out", held_out)
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
    return plain(Proportion.of(count, total, confidence=confidence, resamples=resamples, seed=seed))


def _distances(name: str, values: Any) -> np.ndarray:
    """float64 ``[n]``, finite."""
    array = plain_array(name, values)
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise InputError(
            name, expected="one distance per item, an array [n] of numbers",
            received=f"{array.dtype} of shape {list(array.shape)}",
        )  # fmt: skip
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError(
            name, expected="finite distances", received=f"{array[~np.isfinite(array)][0]} at item "
            f"{int(np.argmin(np.isfinite(array)))}", do="Leave that item out, or repair what produced it.",
        )  # fmt: skip
    return array
