"""MIND, the Monge Inception Distance: a sliced Wasserstein distance, scaled by the width of the features."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from memfast.foundation.arguments import whole_number
from memfast.metrics.arrays import as_matrices, require_magnitude
from memfast.metrics.base import Metric, MetricInputs, MetricOutcome, distances
from memfast.metrics.sliced import random_directions, sliced_costs

PROJECTIONS = 1024
SCALE_PER_FEATURE = 3.0


def mind(x: Any, y: Any, *, projections: int = PROJECTIONS, directions: Any = None, seed: int = 0) -> float:
    """``3 d`` times the mean over directions of the one-dimensional squared W_2 of two equally large sets.

    Range 0 to infinity, 0 for equal sets; lower is closer. The factor makes it comparable with a Frechet distance. It
    needs far fewer samples than that one to be stable, and sees more than two moments.

    Args:
        x: ``[n, d]``.
        y: ``[m, d]``. The larger set is cut to the size of the smaller one by ``seed``, as the definition has it.
        projections: random directions.
        directions: unit vectors ``[count, d]`` in their place, or None.
        seed: of the directions and of the cut.

    Raises:
        InputError: sets of different width, or numbers whose square float64 does not hold.

    Source: Berthet et al. 2026, arXiv 2605.06797.

    >>> round(mind([[0.0], [2.0]], [[1.0], [3.0]], projections=4), 9)
    3.0
    """
    x, y = as_matrices(("x", "y"), (x, y))
    require_magnitude(("x", "y"), (x, y))
    whole_number("projections", projections, least=1)
    generator = np.random.default_rng(whole_number("seed", seed, least=0))
    rows = min(len(x), len(y))
    x, y = (
        points if len(points) == rows else points[np.sort(generator.permutation(len(points))[:rows])]
        for points in (x, y)
    )
    if directions is None:
        chosen = random_directions(x.shape[1], projections, seed)
    else:
        chosen = torch.from_numpy(as_matrices(("x", "directions"), (x, directions))[1])
    return SCALE_PER_FEATURE * x.shape[1] * float(sliced_costs(x, y, 2, chosen).mean())


@dataclass(frozen=True)
class Mind(Metric):
    """`mind` of the two sets."""

    name: ClassVar = "mind"
    summary: ClassVar = "3 d times the squared sliced W_2 of equally many samples (Monge Inception Distance)"
    source: ClassVar = "arXiv 2605.06797"
    values: ClassVar = distances("mind")
    projections: int = PROJECTIONS

    def __post_init__(self) -> None:
        whole_number("projections", self.projections, least=1)

    @property
    def least(self) -> dict[str, int]:
        """One sample is a set."""
        return {"generated": 1, "training": 1}

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """A projection and a sort per direction."""
        return self.projections * 2 * min(m, n) * (2 * d + 200)

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """No interval: few samples give larger values."""
        value = mind(inputs.generated, inputs.training, projections=self.projections, seed=inputs.seed)
        rows = min(len(inputs.generated), len(inputs.training))
        return {"mind": MetricOutcome(value, None, {"projections": self.projections, "rows": rows})}
