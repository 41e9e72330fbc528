"""Realism of each generated sample: how deep it lies in the neighbourhood of some training sample."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrices, require_magnitude
from memfast.metrics.base import INFINITY, Metric, MetricInputs, MetricOutcome, MetricValue
from memfast.metrics.intervals import share_interval
from memfast.metrics.kernel import squared_distances
from memfast.metrics.shared_neighbors import SharedNeighbors

NEIGHBORS = 5
PAIRS_AT_ONCE = 1 << 22
ROUNDING = 2.0**-52


def realism(generated: Any, training: Any, *, k: int = NEIGHBORS, shared: SharedNeighbors | None = None) -> np.ndarray:
    """``max over r of radius_k(r) / |g - r|`` for each generated sample g: float64 ``[m]``, 0 to infinity.

    ``r`` runs over the training samples whose distance to their k-th neighbour lies below the median: the wide balls of
    outliers would call everything real. 1 and more is realistic; a copy of such a sample has infinity, so high values
    are no praise.

    Args:
        generated: ``[m, d]``.
        training: ``[n, d]``, n > k.
        k: neighbours that make a radius.
        shared: neighbours among sets named ``training`` and ``generated``, if they are searched already.

    Raises:
        InputError: too few rows, or training radii that are all equal, of which none lies below the median.

    Source: Kynkaanniemi et al. 2019, equation 3.

    >>> realism([[0.5], [8.0]], [[0.0], [1.0], [3.0], [7.0]], k=1).tolist()
    [2.0, 0.14285714285714285]
    """
    generated, training = as_matrices(("generated", "training"), (generated, training))
    whole_number("k", k, least=1, greatest=len(training) - 1, do="The training set has no more rows.")
    require_magnitude(("generated", "training"), (generated, training))
    shared = shared or SharedNeighbors({"training": training, "generated": generated})
    radii = shared.radii("training", k)
    kept = radii < np.median(radii)
    if not kept.any():
        raise InputError(
            "training", expected="radii of which some lie below their median", received="radii that are too equal",
            do="Remove duplicates, or use another k.",
        )  # fmt: skip
    best = np.zeros(len(generated))
    step = max(1, PAIRS_AT_ONCE // int(kept.sum()))
    for start in range(0, len(generated), step):
        best[start : start + step] = _largest_ratio(generated[start : start + step], training[kept], radii[kept])
    return np.sqrt(best)


@dataclass(frozen=True)
class Realism(Metric):
    """`realism` of the generated samples."""

    name: ClassVar = "realism"
    summary: ClassVar = "median over samples of the greatest training radius over the distance to its centre"
    source: ClassVar = "Kynkaanniemi et al. 2019"
    values: ClassVar = (
        MetricValue("realism", "higher", "higher", 0.0, INFINITY),
        MetricValue("realistic", "higher", "higher", 0.0, 1.0, "Clopper-Pearson"),
    )
    k: int = NEIGHBORS

    def __post_init__(self) -> None:
        whole_number("k", self.k, least=1)

    @property
    def least(self) -> dict[str, int]:
        """Every training sample needs k others."""
        return {"generated": 1, "training": self.k + 1}

    @property
    def searches(self) -> tuple[tuple[str, str, int], ...]:
        """The radii."""
        return (("training", "training", self.k + 1),)

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """All pairs."""
        return m * n * (d + 5)

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """The median, since copies are infinitely realistic; and the share of 1 and more."""
        found = realism(inputs.generated, inputs.training, k=self.k, shared=inputs.neighbors)
        real = found >= 1
        return {
            "realism": MetricOutcome(float(np.median(found)), None, {"k": self.k}),
            "realistic": MetricOutcome(
                float(real.mean()), share_interval(real), {"k": self.k}, real.astype(np.float64)
            ),
        }


def _largest_ratio(points: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """The largest radius over squared distance; pairs that may be it by rounding are computed from differences."""
    squared = squared_distances(points, centres)
    mean = centres.mean(axis=0)
    norms = [np.square(rows - mean).sum(axis=1) for rows in (points, centres)]
    error = (points.shape[1] + 8) * ROUNDING * (norms[0][:, None] + norms[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        least = (radii / (squared + error)).max(axis=1)
        rows, columns = np.nonzero(~(radii / np.maximum(squared - error, 0) < least[:, None]))
    exact = np.square(points[rows] - centres[columns]).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(radii[columns] > 0, radii[columns] / exact, np.where(exact > 0, 0.0, np.inf))
    best = np.zeros(len(points))
    np.maximum.at(best, rows, ratios)
    return best
