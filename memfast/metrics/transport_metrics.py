"""Rows of the catalogue for transport distances and the distances of arXiv 2601.21348."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memfast.foundation.arguments import whole_number
from memfast.metrics.base import INFINITY, Metric, MetricInputs, MetricOutcome, MetricValue, distances
from memfast.metrics.intervals import Interval, mean_interval
from memfast.metrics.projected import l2_distances, projected_distances
from memfast.metrics.sliced import PROJECTIONS
from memfast.metrics.transport import wasserstein

EXACT_TRANSPORT_ROWS = 5000
NORMAL_QUANTILE = 1.959964
GREATEST_JENSEN_SHANNON = math.sqrt(math.log(2))


@dataclass(frozen=True)
class Wasserstein(Metric):
    """Exact W_2 on at most ``exact_transport_rows`` samples of each set."""

    name: ClassVar = "wasserstein"
    summary: ClassVar = "exact W_2 in feature space (up to 5,000 samples of each set)"
    source: ClassVar = "Villani 2009"
    values: ClassVar = distances("wasserstein_2")
    exact_transport_rows: int = EXACT_TRANSPORT_ROWS

    def __post_init__(self) -> None:
        whole_number("exact_transport_rows", self.exact_transport_rows, least=1)

    @property
    def least(self) -> dict[str, int]:
        """One sample is a set."""
        return {"generated": 1, "training": 1}

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """Quadratic in the rows used."""
        return min(m, n, self.exact_transport_rows) ** 2 * (2 * d + 4000)

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """Equally many rows of both sets, chosen by the seed."""
        rows = min(len(inputs.generated), len(inputs.training), self.exact_transport_rows)
        generator = np.random.default_rng(inputs.seed)
        x, y = (
            points[np.sort(generator.permutation(len(points))[:rows])] for points in (inputs.generated, inputs.training)
        )
        found = wasserstein(x, y)
        details = {"method": found.method, "gap": found.gap, "rows": rows}
        return {"wasserstein_2": MetricOutcome(found.value, None, details)}


@dataclass(frozen=True)
class SlicedWasserstein(Metric):
    """Mean over random directions of the one-dimensional W_2."""

    name: ClassVar = "sliced_wasserstein"
    summary: ClassVar = "mean over 128 random directions of the one-dimensional W_2"
    source: ClassVar = "Bonneel et al. 2015"
    values: ClassVar = distances("sliced_wasserstein_2", interval="normal, over the directions")
    projections: int = PROJECTIONS

    def __post_init__(self) -> None:
        whole_number("projections", self.projections, least=1)

    @property
    def least(self) -> dict[str, int]:
        """One sample is a set."""
        return {"generated": 1, "training": 1}

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """A projection and a sort per direction."""
        return self.projections * (m + n) * (2 * d + 200)

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """The interval is that of the directions, not of the samples."""
        found = wasserstein(
            inputs.generated, inputs.training, method="sliced", seed=inputs.seed, projections=self.projections
        )
        error = NORMAL_QUANTILE * found.details["standard_error"]
        interval = Interval(max(0.0, found.value - error), found.value + error) if np.isfinite(error) else None
        return {"sliced_wasserstein_2": MetricOutcome(found.value, interval, dict(found.details))}


@dataclass(frozen=True)
class Projected(Metric):
    """W_1 and Jensen-Shannon per principal component of the training set."""

    name: ClassVar = "projected"
    summary: ClassVar = "W_1 and Jensen-Shannon per principal component of the training set"
    source: ClassVar = "arXiv 2601.21348"
    values: ClassVar = (
        *distances("wasserstein_1_components", "wasserstein_1_components_2"),
        MetricValue("jensen_shannon_components", "lower", "lower", 0.0, GREATEST_JENSEN_SHANNON),
        MetricValue("jensen_shannon_components_2", "lower", "lower", 0.0, GREATEST_JENSEN_SHANNON),
    )
    components: int | None = None

    def __post_init__(self) -> None:
        if self.components is not None:
            whole_number("components", self.components, least=1)

    @property
    def least(self) -> dict[str, int]:
        """Components need two training samples."""
        return {"generated": 1, "training": 2}

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """Mostly the singular values of the training set."""
        return 8 * n * d * min(n, d) + 200 * (m + n) * d

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """With 50 components (or ``components``) and with 2; a training set on a line has no second one."""
        results: dict[str, MetricOutcome] = {}
        found = None
        for suffix, count in (("", self.components), ("_2", 2)):
            if found is not None and found.components < 2:
                continue
            found = projected_distances(inputs.generated, inputs.training, components=count, seed=inputs.seed)
            details = {"components": found.components, "explained_variance": found.explained_variance}
            results[f"wasserstein_1_components{suffix}"] = MetricOutcome(found.wasserstein, None, details)
            results[f"jensen_shannon_components{suffix}"] = MetricOutcome(found.jensen_shannon, None, details)
        return results


@dataclass(frozen=True)
class L2(Metric):
    """L2 per feature to the nearest training sample, and over all pairs."""

    name: ClassVar = "l2"
    summary: ClassVar = "L2 per feature to the nearest training sample, and over all pairs"
    source: ClassVar = "arXiv 2601.21348"
    values: ClassVar = (
        MetricValue("l2_nearest", "none", "lower", 0.0, INFINITY, "bootstrap"),
        MetricValue("l2_all_pairs", "none", "none", 0.0, INFINITY),
    )

    @property
    def least(self) -> dict[str, int]:
        """One sample has a neighbour."""
        return {"generated": 1, "training": 1}

    @property
    def searches(self) -> tuple[tuple[str, str, int], ...]:
        """The nearest training sample."""
        return (("generated", "training", 1),)

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """All pairs."""
        return 2 * m * n * d

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """Both readings of "L2"."""
        found = l2_distances(inputs.generated, inputs.training, shared=inputs.neighbors, seed=inputs.seed)
        width = inputs.training.shape[1]
        samples = np.sqrt(inputs.neighbors.nearest("generated", "training", 1)[0][:, 0] / width)
        return {
            "l2_nearest": MetricOutcome(found.nearest, mean_interval(samples, seed=inputs.seed), {}, samples),
            "l2_all_pairs": MetricOutcome(found.all_pairs),
        }
