"""The Inception Score, of class probabilities that any classifier gave."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrix
from memfast.metrics.base import INFINITY, Metric, MetricInputs, MetricOutcome, MetricValue

SPLITS = 10
# How far a row may be from a sum of 1: float16 softmaxes are about this far.
TOLERANCE = 1e-2


class InceptionScore(NamedTuple):
    """``value`` (the mean over splits) and ``standard_deviation`` over splits (0 of one split)."""

    value: float
    standard_deviation: float
    splits: int


def inception_score(probabilities: Any, *, splits: int = SPLITS) -> InceptionScore:
    """``exp(mean KL(p(class | sample) || p(class)))``, the mean over splits of the samples.

    Range 1 to the number of classes; higher is better: each sample is surely of one class, and the classes are spread
    evenly. It knows no training set: a generator that copies scores as high as the classifier is sure. It is the
    Inception Score where the probabilities are those of Inception v3; for another classifier it is another scale.

    Args:
        probabilities: ``[n, classes]``, each row of at least 0 with a sum of 1 (softmax, not logits).
        splits: consecutive parts, each of which gives a score; 10 in the paper. At most n.

    Raises:
        InputError: rows that are no probabilities, or more splits than rows.

    Source: Salimans et al. 2016.

    >>> inception_score([[1.0, 0.0], [0.0, 1.0]], splits=1).value
    2.0
    """
    rows = as_probabilities("probabilities", probabilities)
    whole_number("splits", splits, least=1, greatest=len(rows), do="Use fewer splits.")
    scores = np.asarray([_score(part) for part in np.array_split(rows, splits)])
    return InceptionScore(float(scores.mean()), float(scores.std()), splits)


def as_probabilities(name: str, value: Any, *, count: int | None = None) -> np.ndarray:
    """``value`` as float64 ``[n, classes]`` whose rows sum to 1.

    Raises:
        InputError: negative numbers, rows of another sum, or another number of rows than ``count``.
    """
    rows = as_matrix(name, value)
    if count is not None and len(rows) != count:
        raise InputError(name, expected=f"one row per sample, {count} rows", received=f"{len(rows)}")
    sums = rows.sum(axis=1)
    wrong = (rows < 0).any(axis=1) | (np.abs(sums - 1) > TOLERANCE)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            name, expected="rows of probabilities that sum to 1",
            received=f"a sum of {sums[row]:.4g} and a least value of {rows[row].min():.4g} in row {row}",
            do="Apply softmax to logits first.",
        )  # fmt: skip
    return rows / sums[:, None]


@dataclass(frozen=True)
class InceptionScoreOfClasses(Metric):
    """`inception_score` of the generated samples' class probabilities."""

    name: ClassVar = "inception_score"
    summary: ClassVar = "exp of the mean divergence of a sample's class probabilities from their mean"
    source: ClassVar = "Salimans et al. 2016"
    values: ClassVar = (MetricValue("inception_score", "higher", "none", 1.0, INFINITY),)
    needs: ClassVar = ("class_probabilities",)
    splits: int = SPLITS

    def __post_init__(self) -> None:
        whole_number("splits", self.splits, least=1)

    @property
    def least(self) -> dict[str, int]:
        """One sample per split."""
        return {"generated": self.splits}

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """The spread over splits stands in the details: it is no interval."""
        found = inception_score(inputs.class_probabilities["generated"], splits=self.splits)
        details = {"standard_deviation": found.standard_deviation, "splits": found.splits}
        return {"inception_score": MetricOutcome(found.value, None, details)}


def _score(rows: np.ndarray) -> float:
    mean = rows.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(rows > 0, rows * (np.log(rows) - np.log(mean)), 0.0)
    return float(np.exp(terms.sum(axis=1).mean()))
