"""Two-sample tests: could both sets come from one distribution? By kernels of several widths, and by neighbours."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrices, as_vector, require_magnitude
from memfast.metrics.base import Metric, MetricInputs, MetricOutcome, MetricValue
from memfast.metrics.kernel import median_distance, squared_distances
from memfast.metrics.shared_neighbors import nearest

PERMUTATIONS = 200
ROWS = 1000
# Widths around the median distance, as tests that aggregate kernels take them.
BANDWIDTH_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
TINY = 1e-300


class KernelTest(NamedTuple):
    """The permutation test of the squared maximum mean discrepancy.

    Attributes:
        p_value: of all bandwidths together; small where the sets differ.
        statistic: the largest standardized discrepancy over the bandwidths.
        discrepancies: unbiased MMD^2 of each bandwidth, ``[b]``.
        p_values: of each bandwidth by itself, ``[b]``: not corrected for there being several.
        bandwidths: ``[b]``.
        permutations: how many.
    """

    p_value: float
    statistic: float
    discrepancies: np.ndarray
    p_values: np.ndarray
    bandwidths: np.ndarray
    permutations: int


class NeighborTest(NamedTuple):
    """The accuracy of telling two equally large sets apart by the nearest neighbour.

    Attributes:
        accuracy: share of samples whose nearest neighbour is of their own set: about 0.5 for one distribution, towards
            1 where the sets differ, towards 0 where each sample of one set has a copy in the other.
        x_accuracy: of the samples of x alone.
        y_accuracy: of the samples of y alone.
        p_value: two-sided, by permutation of the labels.
        rows: samples of each set.
    """

    accuracy: float
    x_accuracy: float
    y_accuracy: float
    p_value: float
    rows: int


def mmd_test(
    x: Any,
    y: Any,
    *,
    bandwidths: Any = None,
    permutations: int = PERMUTATIONS,
    rows: int = ROWS,
    seed: int = 0,
) -> KernelTest:
    """Permutation test of the MMD with RBF kernels of several bandwidths; valid at every sample size.

    The statistic is the largest, over the bandwidths, of the unbiased MMD^2 divided by its deviation under permutation.
    Permuting the labels leaves its distribution as it is where both sets come from one distribution, so the p-value
    needs no correction for the number of bandwidths.

    Args:
        x: ``[n, d]``, n >= 2.
        y: ``[m, d]``, m >= 2.
        bandwidths: of ``exp(-|x-y|^2 / (2 b^2))``, ``[b]``; None takes 1/4, 1/2, 1, 2 and 4 times the median distance
            within both sets together.
        permutations: the least possible p-value is ``1 / (permutations + 1)``.
        rows: the most rows of each set, drawn by ``seed``: the test holds all their pairs.
        seed: of the rows and the permutations.

    Raises:
        InputError: too few rows, bandwidths that are not positive, or rows that are all equal.

    Source: Gretton et al. 2012; several kernels: Schrab et al. 2023 (here with the largest standardized value).
    """
    x, y = as_matrices(("x", "y"), (x, y), minimum=2)
    require_magnitude(("x", "y"), (x, y))
    whole_number("permutations", permutations, least=1)
    whole_number("rows", rows, least=2)
    generator = np.random.default_rng(whole_number("seed", seed, least=0))
    x, y = (_subset(points, rows, generator) for points in (x, y))
    pooled = np.concatenate([x, y])
    squared = squared_distances(pooled, pooled)
    np.fill_diagonal(squared, 0.0)
    widths = _bandwidths(bandwidths, pooled)
    labels = np.zeros((len(pooled), permutations + 1))
    labels[: len(x), 0] = 1
    for column in range(1, permutations + 1):
        labels[generator.permutation(len(pooled))[: len(x)], column] = 1
    values = np.stack([_discrepancies(np.exp(squared / (-2 * width**2)), labels, len(x)) for width in widths])
    standardized = values / np.maximum(values.std(axis=1, keepdims=True), TINY)
    largest = standardized.max(axis=0)
    # A permutation that repeats the observed partition must count, whatever rounding made of it.
    close = 1e-9 * np.maximum(1.0, np.abs(largest[0]))
    return KernelTest(
        float((largest >= largest[0] - close).mean()),
        float(largest[0]),
        values[:, 0],
        (standardized >= standardized[:, :1] - close).mean(axis=1),
        widths,
        permutations,
    )


def nearest_neighbor_accuracy(x: Any, y: Any, *, permutations: int = PERMUTATIONS, seed: int = 0) -> NeighborTest:
    """Leave-one-out accuracy of the nearest neighbour at telling two equally large sets apart.

    Range 0 to 1. About 0.5 (exactly ``(n - 1) / (2 n - 1)`` on average) where both come from one distribution. Against
    a training set, clearly below says that generated samples lie closer to training samples than these lie to each
    other: copies. Clearly above says that the sets differ.

    Args:
        x: ``[n, d]``, n >= 2.
        y: ``[m, d]``, m >= 2. The larger set is cut to the size of the smaller one by ``seed``.
        permutations: relabelings behind the p-value; the neighbours stay.
        seed: of the cut, of the order that settles ties, and of the permutations.

    Raises:
        InputError: too few rows.

    Source: Lopez-Paz and Oquab 2017; Xu et al. 2018.
    """
    x, y = as_matrices(("x", "y"), (x, y), minimum=2)
    whole_number("permutations", permutations, least=1)
    generator = np.random.default_rng(whole_number("seed", seed, least=0))
    rows = min(len(x), len(y))
    x, y = (_subset(points, rows, generator) for points in (x, y))
    # Ties go to the lowest index: in a random order they favour neither set.
    order = generator.permutation(2 * rows)
    pooled, of_x = np.concatenate([x, y])[order], (np.arange(2 * rows) < rows)[order]
    neighbor = _other_nearest(pooled)
    right = of_x == of_x[neighbor]
    accuracy = float(right.mean())
    expected = (rows - 1) / (2 * rows - 1)
    extreme = 1
    for _ in range(permutations):
        shuffled = of_x[generator.permutation(2 * rows)]
        extreme += abs((shuffled == shuffled[neighbor]).mean() - expected) >= abs(accuracy - expected) - 1e-12
    return NeighborTest(
        accuracy, float(right[of_x].mean()), float(right[~of_x].mean()), extreme / (permutations + 1), rows
    )


@dataclass(frozen=True)
class MmdTest(Metric):
    """`mmd_test` of the two sets."""

    name: ClassVar = "mmd_test"
    summary: ClassVar = "p-value of a permutation test of the MMD with RBF kernels of five bandwidths"
    source: ClassVar = "Gretton et al. 2012"
    values: ClassVar = (MetricValue("mmd_p_value", "higher", "none", 0.0, 1.0),)
    permutations: int = PERMUTATIONS
    rows: int = ROWS

    def __post_init__(self) -> None:
        whole_number("permutations", self.permutations, least=1)
        whole_number("rows", self.rows, least=2)

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """All pairs, once per permutation and bandwidth."""
        pairs = (min(m, self.rows) + min(n, self.rows)) ** 2
        return pairs * (2 * d + len(BANDWIDTH_FACTORS) * (20 + 2 * self.permutations))

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """A p-value needs no interval."""
        found = mmd_test(
            inputs.generated, inputs.training, permutations=self.permutations, rows=self.rows, seed=inputs.seed
        )
        details = {name: value for name, value in found._asdict().items() if name != "p_value"}
        return {"mmd_p_value": MetricOutcome(found.p_value, None, details)}


@dataclass(frozen=True)
class NearestNeighborAccuracy(Metric):
    """`nearest_neighbor_accuracy` of the two sets."""

    name: ClassVar = "nearest_neighbor_accuracy"
    summary: ClassVar = "leave-one-out accuracy of the nearest neighbour at telling both sets apart; 0.5 is alike"
    source: ClassVar = "Lopez-Paz and Oquab 2017"
    values: ClassVar = (MetricValue("nearest_neighbor_accuracy", "none", "lower", 0.0, 1.0),)
    permutations: int = PERMUTATIONS

    def __post_init__(self) -> None:
        whole_number("permutations", self.permutations, least=1)

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """A search within both sets."""
        return 8 * min(m, n) ** 2 * d

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """No interval: samples that are each other's neighbours are not independent; the p-value counts that in."""
        found = nearest_neighbor_accuracy(
            inputs.generated, inputs.training, permutations=self.permutations, seed=inputs.seed
        )
        details = {
            "generated": found.x_accuracy, "training": found.y_accuracy, "p_value": found.p_value, "rows": found.rows,
        }  # fmt: skip
        return {"nearest_neighbor_accuracy": MetricOutcome(found.accuracy, None, details)}


def _subset(points: np.ndarray, rows: int, generator: np.random.Generator) -> np.ndarray:
    return points if len(points) <= rows else points[np.sort(generator.permutation(len(points))[:rows])]


def _bandwidths(given: Any, pooled: np.ndarray) -> np.ndarray:
    if given is not None:
        widths = as_vector("bandwidths", given)
        for width in widths:
            finite_number("bandwidths", width, above=0)
        return widths
    middle = median_distance(pooled)
    if not middle > 0:
        raise InputError(
            "bandwidths", expected="positive numbers", received="a median distance of 0: most rows are equal",
            do="Pass bandwidths.",
        )  # fmt: skip
    return middle * np.asarray(BANDWIDTH_FACTORS)


def _discrepancies(kernel: np.ndarray, labels: np.ndarray, n: int) -> np.ndarray:
    """Unbiased MMD^2 of each column of labels (1 for x): float64 ``[columns]``."""
    m = len(kernel) - n
    kernel = kernel - np.diag(np.diagonal(kernel))
    within_x = np.einsum("ij,ij->j", labels, kernel @ labels)
    rows = kernel.sum(axis=1) @ labels
    across = rows - within_x
    within_y = kernel.sum() - within_x - 2 * across
    return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * across / (n * m)


def _other_nearest(points: np.ndarray) -> np.ndarray:
    """The nearest other row of each row, int64 ``[n]``; ties by the lowest index."""
    indices = nearest(points, points, 1, exclude_self=True)[1]
    return indices[:, 0]
