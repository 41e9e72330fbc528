"""Precision, recall, density and coverage: which samples lie in the neighbourhoods of the other set."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrices
from memfast.metrics.balls import balls_around
from memfast.metrics.base import INFINITY, Metric, MetricInputs, MetricOutcome, MetricValue
from memfast.metrics.intervals import CONFIDENCE, Interval, bootstrap_mean, share_interval
from memfast.metrics.shared_neighbors import SharedNeighbors

NEIGHBORS = 5


class ManifoldScores(NamedTuple):
    """The four scores; each higher is better for a generator, and none of them tells a copy from a new sample."""

    precision: float
    recall: float
    density: float
    coverage: float


class ManifoldCounts(NamedTuple):
    """What the scores are means of.

    Attributes:
        covering: int64 ``[generated]``, real neighbourhoods that hold each generated sample.
        recalled: bool ``[real]``, whether a generated neighbourhood holds each real sample.
        covered: bool ``[real]``, whether each real neighbourhood holds a generated sample.
        k: the neighbours that make a neighbourhood.
    """

    covering: np.ndarray
    recalled: np.ndarray
    covered: np.ndarray
    k: int

    def scores(self) -> ManifoldScores:
        """The four means."""
        return ManifoldScores(
            float((self.covering > 0).mean()),
            float(self.recalled.mean()),
            float(self.covering.mean() / self.k),
            float(self.covered.mean()),
        )

    def intervals(self, *, confidence: float = CONFIDENCE, seed: int = 0) -> dict[str, Interval | None]:
        """An interval of each score over its samples, the neighbourhoods held fixed.

        Clopper and Pearson's of the three shares; a bootstrap of density, which is no share (None where all agree).
        """
        flags = {"precision": self.covering > 0, "recall": self.recalled, "coverage": self.covered}
        found: dict[str, Interval | None] = {
            name: share_interval(values, confidence=confidence) for name, values in flags.items()
        }
        density = bootstrap_mean(self.covering / self.k, confidence=confidence, seed=seed)
        found["density"] = None if density.low == density.high else density
        return found


def precision_recall_density_coverage(
    real: Any, generated: Any, k: int = NEIGHBORS, *, closed: bool = False
) -> ManifoldScores:
    """Precision, recall, density and coverage with the k-th neighbour's distance as each sample's radius.

    precision: share of generated samples within some real radius (0 to 1); recall: share of real samples within some
    generated radius (0 to 1); density: mean number of real radii that hold a generated sample, over k (0 upwards, near
    1 for equal distributions); coverage: share of real samples whose radius holds a generated one (0 to 1). A
    generator that copies its training set scores high on all four: read them beside the copies found.

    Args:
        real: ``[n, d]``, n > k.
        generated: ``[m, d]``, m > k.
        k: neighbours; the sample itself does not count.
        closed: False compares with ``<`` (prdc, dgm-eval), True with ``<=`` (torch-fidelity). They differ where
            duplicates make a radius 0.

    Source: Kynkaanniemi et al. 2019; Naeem et al. 2020. Equal to the package prdc with ``closed=False``.

    >>> precision_recall_density_coverage([[0.0], [1.0], [2.0]], [[0.5], [1.5], [9.0]], k=1)
    ManifoldScores(precision=0.6666666666666666, recall=1.0, density=1.3333333333333333, coverage=1.0)
    """
    return manifold_counts(real, generated, k, closed=closed).scores()


def manifold_counts(
    real: Any, generated: Any, k: int = NEIGHBORS, *, closed: bool = False, shared: SharedNeighbors | None = None
) -> ManifoldCounts:
    """The per-sample counts behind `precision_recall_density_coverage`, for intervals and per-class means.

    Args:
        real: as there.
        generated: as there.
        k: as there.
        closed: as there.
        shared: neighbours among sets named ``training`` (real) and ``generated``, if they are searched already.
    """
    real, generated = as_matrices(("real", "generated"), (real, generated), dtype=None)
    whole_number("k", k, least=1)
    for name, rows in (("real", real), ("generated", generated)):
        if len(rows) <= k:
            raise InputError(name, expected=f"more than k = {k} rows", received=f"{len(rows)}")
    shared = shared or SharedNeighbors({"training": real, "generated": generated})
    return ManifoldCounts(
        *balls_around(real, shared.radii("training", k), generated, shared.radii("generated", k), closed=closed), k
    )


@dataclass(frozen=True)
class ManifoldOverlap(Metric):
    """`precision_recall_density_coverage` of the two sets."""

    name: ClassVar = "prdc"
    summary: ClassVar = "precision, recall, density and coverage of 5-neighbour balls"
    source: ClassVar = "Naeem et al. 2020"
    values: ClassVar = (
        MetricValue("precision", "higher", "higher", 0.0, 1.0, "Clopper-Pearson"),
        MetricValue("recall", "higher", "none", 0.0, 1.0, "Clopper-Pearson"),
        MetricValue("density", "higher", "higher", 0.0, INFINITY, "bootstrap"),
        MetricValue("coverage", "higher", "higher", 0.0, 1.0, "Clopper-Pearson"),
    )
    k: int = NEIGHBORS
    closed: bool = False

    def __post_init__(self) -> None:
        whole_number("k", self.k, least=1)

    @property
    def least(self) -> dict[str, int]:
        """Every sample needs k others."""
        return {"generated": self.k + 1, "training": self.k + 1}

    @property
    def searches(self) -> tuple[tuple[str, str, int], ...]:
        """The balls of both sets."""
        return (("training", "training", self.k + 1), ("generated", "generated", self.k + 1))

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """All pairs."""
        return 2 * m * n * (d + 10)

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """The four scores."""
        counts = manifold_counts(inputs.training, inputs.generated, self.k, closed=self.closed, shared=inputs.neighbors)
        intervals = counts.intervals(seed=inputs.seed)
        samples = {"precision": counts.covering > 0, "density": counts.covering / self.k}
        details = {"k": self.k, "comparison": "<=" if self.closed else "<"}
        return {
            name: MetricOutcome(value, intervals[name], details, samples.get(name))
            for name, value in counts.scores()._asdict().items()
        }
