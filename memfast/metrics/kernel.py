"""The kernel distance: the squared maximum mean discrepancy, unbiased, with a polynomial or an RBF kernel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrices
from memfast.metrics.base import INFINITY, Metric, MetricInputs, MetricOutcome, MetricValue
from memfast.metrics.intervals import Interval

DEGREE = 3
COEFFICIENT = 1.0
SUBSETS = 100
SUBSET_SIZE = 1000
BANDWIDTH_ROWS = 1000
ROWS_AT_ONCE = 1024
NORMAL_QUANTILE = 1.959964
JACKKNIFE = "delete-d jackknife of the subsets"

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


class KernelDistanceResult(NamedTuple):
    """``value`` (the mean over subsets), ``standard_deviation`` over subsets (NaN without), ``subsets``, bandwidth."""

    value: float
    standard_deviation: float
    subsets: int
    bandwidth: float


def kernel_distance(
    x: Any,
    y: Any,
    *,
    kernel: str = "polynomial",
    degree: int = DEGREE,
    gamma: float | None = None,
    coef: float = COEFFICIENT,
    subsets: int | None = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    bandwidth: float | None = None,
    seed: int = 0,
) -> KernelDistanceResult:
    """Unbiased ``MMD^2`` in float64; KID with the polynomial kernel ``(x.y / d + 1)^3`` on Inception features.

    Range: around 0 (slightly negative for equal distributions, as it is unbiased) to infinity; lower is closer. Its
    scale depends on the features. Unlike the Frechet distance it has no bias in the number of samples.

    Args:
        x: ``[n, d]``.
        y: ``[m, d]``.
        kernel: ``polynomial``: ``(gamma x.y + coef)^degree``, or ``rbf``: ``exp(-|x-y|^2 / (2 bandwidth^2))``.
        degree: of ``polynomial``, at least 1.
        gamma: of ``polynomial``, above 0; None takes 1/d.
        coef: of ``polynomial``.
        subsets: mean over this many random subsets of both sets, as KID is reported; None takes all pairs once.
        subset_size: rows of each subset; at most the smaller set.
        bandwidth: of the RBF kernel; None takes the median distance within ``y``, of 1,000 rows spread evenly over it.
        seed: of the subsets.

    Raises:
        InputError: fewer than two rows, ``subset_size`` above a set's rows, a constant ``y`` without a bandwidth, or
            features so large that the kernel overflows.

    Source: Gretton et al. 2012; Binkowski et al. 2018.
    """
    x, y = as_matrices(("x", "y"), (x, y), minimum=2)
    compute, width = kernel_function(kernel, y, bandwidth, degree=degree, gamma=gamma, coef=coef)
    if subsets is None:
        return KernelDistanceResult(_unbiased(x, y, compute), float("nan"), 0, width)
    whole_number("subsets", subsets, least=1)
    whole_number("subset_size", subset_size, least=2, greatest=min(len(x), len(y)), do="Or pass subsets=None.")
    generator = np.random.default_rng(whole_number("seed", seed, least=0))
    values = np.asarray(
        [
            _unbiased(
                x[generator.permutation(len(x))[:subset_size]], y[generator.permutation(len(y))[:subset_size]], compute
            )
            for _ in range(subsets)
        ]
    )
    return KernelDistanceResult(float(values.mean()), float(values.std()), subsets, width)


@dataclass(frozen=True)
class KernelPolynomial(Metric):
    """`kernel_distance` with the polynomial kernel."""

    name: ClassVar = "kernel"
    summary: ClassVar = "squared MMD, cubic polynomial kernel (KID on Inception features)"
    source: ClassVar = "Binkowski et al. 2018"
    values: ClassVar = (MetricValue("kernel_distance", "lower", "lower", -INFINITY, INFINITY, JACKKNIFE),)
    degree: int = DEGREE
    gamma: float | None = None
    coef: float = COEFFICIENT
    subsets: int = SUBSETS
    subset_size: int = SUBSET_SIZE

    def __post_init__(self) -> None:
        whole_number("degree", self.degree, least=1)
        finite_number("coef", self.coef)
        if self.gamma is not None:
            finite_number("gamma", self.gamma, above=0)
        _check_subsets(self.subsets, self.subset_size)

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """Three Gram matrices per subset."""
        return 6 * self.subsets * min(m, n, self.subset_size) ** 2 * (d + 20)

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """The mean over subsets."""
        options = {"degree": self.degree, "gamma": self.gamma, "coef": self.coef}
        outcome = _with_jackknife(inputs, self.subsets, self.subset_size, kernel="polynomial", **options)
        return {"kernel_distance": outcome}


@dataclass(frozen=True)
class KernelRbf(Metric):
    """`kernel_distance` with the RBF kernel."""

    name: ClassVar = "kernel_rbf"
    summary: ClassVar = "squared MMD, RBF kernel of median bandwidth"
    source: ClassVar = "Gretton et al. 2012"
    values: ClassVar = (MetricValue("kernel_distance_rbf", "lower", "lower", -INFINITY, 2.0, JACKKNIFE),)
    bandwidth: float | None = None
    subsets: int = SUBSETS
    subset_size: int = SUBSET_SIZE

    def __post_init__(self) -> None:
        if self.bandwidth is not None:
            finite_number("bandwidth", self.bandwidth, above=0)
        _check_subsets(self.subsets, self.subset_size)

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """Three Gram matrices per subset."""
        return 6 * self.subsets * min(m, n, self.subset_size) ** 2 * (d + 20)

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """The mean over subsets."""
        outcome = _with_jackknife(inputs, self.subsets, self.subset_size, kernel="rbf", bandwidth=self.bandwidth)
        return {"kernel_distance_rbf": outcome}


def _check_subsets(subsets: int, subset_size: int) -> None:
    whole_number("subsets", subsets, least=1)
    whole_number("subset_size", subset_size, least=2)


def _with_jackknife(inputs: MetricInputs, subsets: int, subset_size: int, **options: Any) -> MetricOutcome:
    """Subsets of at most half the smaller set, so that they differ; the interval is their delete-d jackknife's.

    Subsets overlap: their mean is far surer of these very samples than the samples are of their distribution.
    """
    count = min(len(inputs.generated), len(inputs.training))
    size = max(2, min(subset_size, count // 2))
    found = kernel_distance(
        inputs.generated, inputs.training, subsets=subsets, subset_size=size, seed=inputs.seed, **options
    )
    jackknife = size / (count - size) if count > size else np.inf
    error = NORMAL_QUANTILE * found.standard_deviation * np.sqrt(jackknife + 1 / found.subsets)
    details: dict[str, Any] = {"standard_deviation": found.standard_deviation, "subset_size": size}
    if np.isfinite(found.bandwidth):
        details["bandwidth"] = found.bandwidth
    wide = np.isfinite(error) and error > 0
    interval = Interval(float(found.value - error), float(found.value + error)) if wide else None
    return MetricOutcome(found.value, interval, details)


def kernel_function(
    name: str,
    reference: np.ndarray,
    bandwidth: float | None = None,
    *,
    degree: int = DEGREE,
    gamma: float | None = None,
    coef: float = COEFFICIENT,
) -> tuple[Kernel, float]:
    """The kernel of this name as a function of two sets of rows, and its bandwidth (NaN of ``polynomial``).

    Raises:
        InputError: an unknown kernel, an option out of range, or equal ``reference`` rows without a bandwidth.
    """
    if name == "polynomial":
        degree, coef = whole_number("degree", degree, least=1), finite_number("coef", coef)
        scale = 1 / reference.shape[1] if gamma is None else finite_number("gamma", gamma, above=0)
        if gamma is None:
            return lambda a, b: (a @ b.T / a.shape[1] + coef) ** degree, float("nan")
        return lambda a, b: (scale * (a @ b.T) + coef) ** degree, float("nan")
    if name != "rbf":
        raise InputError("kernel", expected="'polynomial' or 'rbf'", received=repr(name))
    if bandwidth is not None:
        bandwidth = finite_number("bandwidth", bandwidth, above=0)
    else:
        bandwidth = median_distance(reference)
    if not (bandwidth > 0 and np.isfinite(bandwidth)):
        raise InputError(
            "bandwidth", expected="a positive number, as the median distance between the reference rows gives",
            received=repr(bandwidth), do="Are all rows of y equal? Pass a bandwidth.",
        )  # fmt: skip
    return lambda a, b: np.exp(squared_distances(a, b) / (-2 * bandwidth**2)), bandwidth


def median_distance(rows: np.ndarray) -> float:
    """The median distance between 1,000 rows spread evenly over ``rows``; 0 of a single row."""
    count = min(len(rows), BANDWIDTH_ROWS)
    part = rows[np.arange(count) * len(rows) // count]
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.sqrt(squared_distances(part, part)[np.triu_indices(count, 1)])
    return float(np.median(found)) if len(found) else 0.0


def _unbiased(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        within = [(_sum(s, s, kernel) - _diagonal(s, kernel)) / (len(s) * (len(s) - 1)) for s in (x, y)]
        value = within[0] + within[1] - 2 * _sum(x, y, kernel) / (len(x) * len(y))
    if not np.isfinite(value):
        raise InputError(
            "features", expected="magnitudes whose kernel float64 holds", received="larger ones",
            do="Scale both sets by one number.",
        )  # fmt: skip
    return value


def _sum(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> float:
    return float(sum(kernel(x[s : s + ROWS_AT_ONCE], y).sum() for s in range(0, len(x), ROWS_AT_ONCE)))


def _diagonal(x: np.ndarray, kernel: Kernel) -> float:
    return float(sum(kernel(x[s : s + 1], x[s : s + 1])[0, 0] for s in range(len(x))))


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of all pairs of rows, float64 ``[n, m]``, about the mean of ``y``."""
    mean = y.mean(axis=0)
    x, y = x - mean, y - mean
    return np.clip((x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * (x @ y.T), 0, None)
