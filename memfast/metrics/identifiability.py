"""The identifiability score: how many training samples have a generated one nearer than any other training sample."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from memfast.metrics.arrays import as_matrices
from memfast.metrics.base import Metric, MetricInputs, MetricOutcome, MetricValue
from memfast.metrics.intervals import Interval, share_interval
from memfast.metrics.shared_neighbors import SharedNeighbors


class Identifiability(NamedTuple):
    """``score``, the share; its ``interval``; and ``identified``, bool ``[n]``, for each training sample."""

    score: float
    interval: Interval
    identified: np.ndarray


def identifiability(generated: Any, training: Any, *, shared: SharedNeighbors | None = None) -> Identifiability:
    """Share of training samples that lie closer to a generated sample than to every other training sample: 0 to 1.

    Lower is safer. A generator of the same distribution and size has about 1/2; only the excess over what held-out data
    score is due to copying.

    Args:
        generated: ``[m, d]``.
        training: ``[n, d]``, n >= 2. Scale the columns of a table first, for example by their deviations.
        shared: neighbours among sets named ``training`` and ``generated``, if they are searched already.

    Raises:
        InputError: sets of different width, or fewer than two training rows.

    Source: Yoon, Drumright and van der Schaar 2020 (ADS-GAN), definition 1 with equal weights.

    >>> identifiability([[0.1]], [[0.0], [1.0], [3.0]]).identified.tolist()
    [True, True, False]
    """
    generated, training = as_matrices(("generated", "training"), (generated, training), dtype=None)
    shared = shared or SharedNeighbors({"generated": generated, "training": training})
    to_generated = shared.nearest("training", "generated", 1)[0][:, 0]
    identified = to_generated < shared.radii("training", 1)
    return Identifiability(float(identified.mean()), share_interval(identified), identified)


@dataclass(frozen=True)
class IdentifiabilityScore(Metric):
    """`identifiability` of the training samples."""

    name: ClassVar = "identifiability"
    summary: ClassVar = "share of training samples nearer to a generated one than to any other training sample"
    source: ClassVar = "Yoon et al. 2020"
    values: ClassVar = (MetricValue("identifiability", "lower", "higher", 0.0, 1.0, "Clopper-Pearson"),)

    @property
    def least(self) -> dict[str, int]:
        """A training sample and another one."""
        return {"generated": 1, "training": 2}

    @property
    def searches(self) -> tuple[tuple[str, str, int], ...]:
        """The nearest generated and the nearest training sample."""
        return (("training", "generated", 1), ("training", "training", 2))

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """A share of the training samples."""
        found = identifiability(inputs.generated, inputs.training, shared=inputs.neighbors)
        return {"identifiability": MetricOutcome(found.score, found.interval)}
