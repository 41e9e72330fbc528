"""The kernel distance: the squared maximum mean discrepancy, unbiased, with a polynomial or an RBF kernel."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrices

DEGREE = 3
OFFSET = 1.0
SUBSETS = 100
SUBSET_SIZE = 1000
BANDWIDTH_ROWS = 1000
ROWS_AT_ONCE = 1024

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


class KernelDistance(NamedTuple):
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
    subsets: int | None = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    bandwidth: float | None = None,
    seed: int = 0,
) -> KernelDistance:
    """Unbiased ``MMD^2`` in float64; KID with the polynomial kernel ``(x.y / d + 1)^3`` on Inception features.

    Range: around 0 (slightly negative for equal distributions, as it is unbiased) to infinity; lower is closer. Its
    scale depends on the features. Unlike the Frechet distance it has no bias in the number of samples.

    Args:
        x: ``[n, d]``.
        y: ``[m, d]``.
        kernel: ``polynomial``, or ``rbf``: ``exp(-|x-y|^2 / (2 bandwidth^2))``.
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
    compute, width = _kernel(kernel, y, bandwidth)
    if subsets is None:
        return KernelDistance(_unbiased(x, y, compute), float("nan"), 0, width)
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
    return KernelDistance(float(values.mean()), float(values.std()), subsets, width)


def _kernel(name: str, y: np.ndarray, bandwidth: float | None) -> tuple[Kernel, float]:
    if name == "polynomial":
        return lambda a, b: (a @ b.T / a.shape[1] + OFFSET) ** DEGREE, float("nan")
    if name != "rbf":
        raise InputError("kernel", expected="'polynomial' or 'rbf'", received=repr(name))
    if bandwidth is not None:
        bandwidth = finite_number("bandwidth", bandwidth, above=0)
    else:
        part = y[np.arange(min(len(y), BANDWIDTH_ROWS)) * len(y) // min(len(y), BANDWIDTH_ROWS)]
        bandwidth = float(np.median(np.sqrt(_squared(part, part)[np.triu_indices(len(part), 1)])))
    if not bandwidth > 0:
        raise InputError(
            "bandwidth", expected="a positive number", received=repr(bandwidth), do="Are all rows of y equal? Pass one."
        )
    return lambda a, b: np.exp(_squared(a, b) / (-2 * bandwidth**2)), bandwidth


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


def _squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    mean = y.mean(axis=0)
    x, y = x - mean, y - mean
    return np.clip((x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * (x @ y.T), 0, None)
