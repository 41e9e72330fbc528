"""Metrics that look for copies with nearest neighbours: authenticity, neighbour ratios, MiFID's penalty."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrices
from memfast.metrics.base import INFINITY, Metric, MetricInputs, MetricOutcome, MetricValue
from memfast.metrics.frechet import frechet_distance
from memfast.metrics.intervals import Interval, share_interval
from memfast.metrics.shared_neighbors import SharedNeighbors, nearest

RATIO_THRESHOLD = 1 / 3
COSINE_EPSILON = 0.1
# Below this share of the training set's variance a Frechet distance is rounding, which the divisor would blow up.
NO_DISTANCE = 1e-12
PERCENTILES = (5, 25, 50, 75, 95)


class NeighborRatios(NamedTuple):
    """Statistics of d1/d2 and of d1 over the generated samples.

    Attributes:
        mean_ratio: mean of d1/d2 (NNDR), 0 to 1; near 0 is a copy, near 1 no sample stands out.
        fraction_below: share of ratios below ``threshold``.
        interval: Clopper and Pearson's interval of ``fraction_below``.
        threshold: the threshold.
        ratio_percentiles: 5th, 25th, 50th, 75th and 95th percentile of the ratio.
        mean_distance: mean of d1 (DCR), in feature units.
        distance_percentiles: the same percentiles of d1.
        undefined: samples with d1 = d2 = 0, left out of the ratios: duplicates in the training set hide them.
    """

    mean_ratio: float
    fraction_below: float
    interval: Interval
    threshold: float
    ratio_percentiles: tuple[float, ...]
    mean_distance: float
    distance_percentiles: tuple[float, ...]
    undefined: int


def auth_pct(generated: Any, training: Any, *, shared: SharedNeighbors | None = None) -> float:
    """Per cent of the generated samples that are authentic: 0 to 100, higher is less copying.

    A sample g with training neighbour t is authentic where ``d(t, nearest other training sample) < d(g, t)``. About 50
    is what held-out data give in high dimension; read it beside that figure. Exact duplicates within the training set
    have a neighbour at 0 and so hide copies of themselves: remove them first.

    Source: Alaa et al. 2022; the formula of dgm-eval's ``authpct`` (fld subtracts 50).

    >>> auth_pct([[0.1], [5.0]], [[0.0], [1.0], [2.0]])
    50.0
    """
    generated, training = as_matrices(("generated", "training"), (generated, training), dtype=None)
    if len(training) < 2:
        raise InputError("training", expected="at least 2 rows", received="1")
    shared = shared or SharedNeighbors({"generated": generated, "training": training})
    return float(100 * authenticity(shared).mean())


def authenticity(shared: SharedNeighbors) -> np.ndarray:
    """bool ``[generated]``: whether each sample of the set ``generated`` is authentic, see `auth_pct`."""
    squared, indices = shared.nearest("generated", "training", 1)
    return shared.radii("training", 1)[indices[:, 0]] < squared[:, 0]


def neighbor_ratios(
    generated: Any,
    training: Any,
    *,
    threshold: float = RATIO_THRESHOLD,
    shared: SharedNeighbors | None = None,
    seed: int = 0,
) -> NeighborRatios:
    """Distances to the nearest and second nearest training sample, and their ratio (DCR and NNDR of tabular data).

    Lower ratios and distances mean more copying. Held-out data through the same function give the floor to read them
    against.

    Args:
        generated: ``[m, d]``.
        training: ``[n, d]``, n >= 2, without exact duplicates.
        threshold: of ``fraction_below``.
        shared: neighbours among ``generated`` and ``training``, if searched already.
        seed: unused; kept for callers of earlier versions.

    Source: Yoon et al. 2023 (ratio below 1/3).
    """
    finite_number("threshold", threshold, above=0)
    generated, training = as_matrices(("generated", "training"), (generated, training), dtype=None)
    if len(training) < 2:
        raise InputError("training", expected="at least 2 rows", received="1")
    shared = shared or SharedNeighbors({"generated": generated, "training": training})
    squared, _ = shared.nearest("generated", "training", 2)
    distances = np.sqrt(squared)
    defined = squared[:, 1] > 0
    ratios = distances[defined, 0] / distances[defined, 1]
    below = squared[:, 0] < threshold**2 * squared[:, 1]
    return NeighborRatios(
        float(ratios.mean()) if len(ratios) else float("nan"),
        float(below.mean()),
        share_interval(below),
        threshold,
        _percentiles(ratios),
        float(distances[:, 0].mean()),
        _percentiles(distances[:, 0]),
        int((~defined).sum()),
    )


def mifid(generated: Any, training: Any, *, epsilon: float = COSINE_EPSILON, average_over: str = "generated") -> float:
    """The Frechet distance divided by the mean least cosine distance to the training set, where that is below epsilon.

    Range 0 to infinity; lower is meant to be better: copies shrink the divisor and so raise the score.
    ``cosine distance = 1 - |cos|``; rows of zeros are left out.

    Args:
        generated: ``[m, d]``.
        training: ``[n, d]``.
        epsilon: above it no penalty is applied.
        average_over: ``generated``: each generated sample's nearest training sample (the definition), or ``training``:
            each training sample's nearest generated one (what torchmetrics computes).

    Source: Bai et al. 2021.
    """
    finite_number("epsilon", epsilon)
    generated, training = as_matrices(("generated", "training"), (generated, training), minimum=2)
    distance = frechet_distance(generated, training)
    memorization = cosine_penalty(generated, training, average_over=average_over)
    if distance <= NO_DISTANCE * training.var(axis=0).sum():
        return 0.0
    return distance / (memorization + 1e-14) if memorization < epsilon else distance


def cosine_penalty(generated: Any, training: Any, *, average_over: str = "generated") -> float:
    """Mean over one set of the least ``1 - |cos|`` to the other: 0 to 1, lower is more copying.

    Computed as half the squared distance of the rows scaled to length one, so that near-copies keep their digits.
    """
    _check_average_over(average_over)
    sets = as_matrices(("generated", "training"), (generated, training))
    queries, database = sets if average_over == "generated" else reversed(sets)
    queries, database = _unit_rows("generated", queries), _unit_rows("training", database)
    squared = nearest(queries, database, 1)[0][:, 0]
    if min(queries.min(), database.min()) < 0:
        squared = np.minimum(squared, nearest(-queries, database, 1)[0][:, 0])
    return float(squared.mean() / 2)


@dataclass(frozen=True)
class AuthenticityShare(Metric):
    """`auth_pct` of the two sets."""

    name: ClassVar = "auth_pct"
    summary: ClassVar = "per cent of samples farther from their training neighbour than it is from its own"
    source: ClassVar = "Alaa et al. 2022"
    values: ClassVar = (MetricValue("auth_pct", "higher", "lower", 0.0, 100.0, "Clopper-Pearson"),)

    @property
    def least(self) -> dict[str, int]:
        """A training neighbour and its neighbour."""
        return {"generated": 1, "training": 2}

    @property
    def searches(self) -> tuple[tuple[str, str, int], ...]:
        """The nearest training sample, and its own."""
        return (("generated", "training", 1), ("training", "training", 2))

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """A share, in per cent."""
        authentic = authenticity(inputs.neighbors)
        low, high = share_interval(authentic)
        samples = 100.0 * authentic
        return {"auth_pct": MetricOutcome(float(samples.mean()), Interval(100 * low, 100 * high), {}, samples)}


@dataclass(frozen=True)
class NeighborRatio(Metric):
    """`neighbor_ratios` of the two sets."""

    name: ClassVar = "neighbor_ratio"
    summary: ClassVar = "nearest over second nearest training distance (NNDR)"
    source: ClassVar = "Yoon et al. 2023"
    values: ClassVar = (
        MetricValue("neighbor_ratio", "none", "lower", 0.0, 1.0),
        MetricValue("neighbor_ratio_below", "lower", "higher", 0.0, 1.0, "Clopper-Pearson"),
    )
    threshold: float = RATIO_THRESHOLD

    def __post_init__(self) -> None:
        finite_number("threshold", self.threshold, above=0)

    @property
    def least(self) -> dict[str, int]:
        """Two neighbours."""
        return {"generated": 1, "training": 2}

    @property
    def searches(self) -> tuple[tuple[str, str, int], ...]:
        """The two nearest training samples."""
        return (("generated", "training", 2),)

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """The mean of the defined ratios, and the share below the threshold."""
        found = neighbor_ratios(inputs.generated, inputs.training, threshold=self.threshold, shared=inputs.neighbors)
        squared, _ = inputs.neighbors.nearest("generated", "training", 2)
        below = (squared[:, 0] < found.threshold**2 * squared[:, 1]).astype(np.float64)
        details = {"percentiles_5_25_50_75_95": list(found.ratio_percentiles), "undefined": found.undefined}
        return {
            "neighbor_ratio": MetricOutcome(found.mean_ratio, None, details),
            "neighbor_ratio_below": MetricOutcome(
                found.fraction_below, found.interval, {"threshold": found.threshold}, below
            ),
        }


@dataclass(frozen=True)
class PenalizedFrechet(Metric):
    """`mifid` of the two sets."""

    name: ClassVar = "mifid"
    summary: ClassVar = "Frechet distance over the mean least cosine distance"
    source: ClassVar = "Bai et al. 2021"
    values: ClassVar = (MetricValue("mifid", "lower", "higher", 0.0, INFINITY),)
    epsilon: float = COSINE_EPSILON
    average_over: str = "generated"

    def __post_init__(self) -> None:
        finite_number("epsilon", self.epsilon)
        _check_average_over(self.average_over)

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """A Frechet distance and a search."""
        return 2 * (m + n) * d**2 + 30 * d**3 + 2 * m * n * d

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """With the divisor beside."""
        options = {"average_over": self.average_over}
        penalty = cosine_penalty(inputs.generated, inputs.training, average_over=self.average_over)
        value = mifid(inputs.generated, inputs.training, epsilon=self.epsilon, **options)
        return {"mifid": MetricOutcome(value, None, {"mean_least_cosine_distance": penalty})}


def _check_average_over(average_over: str) -> None:
    if average_over not in ("generated", "training"):
        raise InputError("average_over", expected="'generated' or 'training'", received=repr(average_over))


def _unit_rows(name: str, rows: np.ndarray) -> np.ndarray:
    kept = rows.any(axis=1)
    if not kept.any():
        raise InputError(name, expected="a row that is not zero", received="zeros only")
    rows = rows[kept]
    # Squares of very large or small numbers would leave float64; a power of two changes no digit.
    rows = np.ldexp(rows, -np.frexp(np.abs(rows).max(axis=1, keepdims=True))[1])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _percentiles(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in np.percentile(values, PERCENTILES)) if len(values) else (float("nan"),) * 5
