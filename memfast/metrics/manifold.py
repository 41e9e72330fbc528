"""Precision, recall, density and coverage: which samples lie in the neighbourhoods of the other set."""

from typing import Any, NamedTuple

import numpy as np

from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrices
from memfast.metrics.inside import balls_around
from memfast.metrics.intervals import Interval, bootstrap_mean
from memfast.metrics.shared import SharedNeighbors

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

    def intervals(self, **options: Any) -> dict[str, Interval]:
        """A bootstrap interval of each score over its samples, the neighbourhoods held fixed."""
        values = (self.covering > 0, self.recalled, self.covering / self.k, self.covered)
        return {
            name: bootstrap_mean(value, **options) for name, value in zip(ManifoldScores._fields, values, strict=True)
        }


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
