"""The Frechet distance between Gaussians fitted to two sets, and its limit for infinitely many samples."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrices, as_matrix
from memfast.metrics.base import INFINITY, Metric, MetricInputs, MetricOutcome, MetricValue, distances
from memfast.metrics.moments import Moments

POINTS = 15
SMALLEST_SUBSET = 5000
ROWS_PER_UPDATE = 8192


class FrechetInfinity(NamedTuple):
    """The extrapolated distance, its standard error from the line fit (NaN of two points), and what was fitted.

    The subsets share samples: the error is that of the line, less than that of the distance.
    """

    value: float
    standard_error: float
    slope: float
    sizes: np.ndarray
    distances: np.ndarray


def frechet_distance(x: Any, y: Any) -> float:
    """``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` of the means and unbiased covariances; FID on Inception features.

    Range 0 to infinity, 0 for equal moments; lower is closer. It is blind to everything beyond the first two moments
    and biased upwards for few samples (see `frechet_infinity`); a copy of the training set scores best.

    Args:
        x: ``[n, d]`` features (n >= 2), or `Moments`.
        y: ``[m, d]`` features, or `Moments`.

    Source: Dowson and Landau 1982; Heusel et al. 2017.

    >>> frechet_distance([[0.0], [2.0]], [[3.0], [5.0]])
    9.0
    """
    if not isinstance(x, Moments) and not isinstance(y, Moments):
        x, y = as_matrices(("x", "y"), (x, y), minimum=2)
        if len(x) + len(y) < x.shape[1]:
            return _from_few_rows(x, y)
    x, y = (one if isinstance(one, Moments) else as_matrix(name, one, minimum=2) for name, one in (("x", x), ("y", y)))
    return frechet_from_moments(_moments(x), _moments(y))


def frechet_from_moments(x: Moments, y: Moments) -> float:
    """As `frechet_distance`, of two `Moments`.

    Raises:
        InputError: they have different widths, or numbers that are not finite or whose square overflows.
    """
    if len(x.mean) != len(y.mean):
        raise InputError("y", expected=f"{len(x.mean)} features, as x has", received=f"{len(y.mean)}")
    few, many = (x, y) if x.count <= y.count else (y, x)
    scale = _power_of_two_scale("features", np.trace(few.covariance), np.trace(many.covariance))
    first, second = few.covariance * scale, many.covariance * scale
    factor = _factor(first)
    product = _symmetric(factor.T @ second @ factor)
    overlap = np.sqrt(np.clip(np.linalg.eigvalsh(product), 0, None)).sum() if product.size else 0.0
    return _assemble(x.mean, y.mean, (np.trace(first) + np.trace(second)) / scale, overlap / scale)


def frechet_infinity(
    generated: Any, reference: Any, *, points: int = POINTS, smallest: int | None = None, seed: int = 0
) -> FrechetInfinity:
    """The Frechet distance extrapolated to infinitely many generated samples: a line in 1/N through random subsets.

    Range: close to 0 upwards (noise can push it below), lower is closer.

    Args:
        generated: ``[n, d]``.
        reference: ``[m, d]``, used whole.
        points: number of subset sizes, equally spaced up to n.
        smallest: the smallest subset; None takes ``min(5000, max(n / 10, 2))``, as dgm-eval does.
        seed: of the subsets.

    Source: Chong and Forsyth 2020 (FID-infinity); Stein et al. 2023.
    """
    generated, reference = as_matrices(("generated", "reference"), (generated, reference), minimum=2)
    whole_number("points", points, least=2)
    count = len(generated)
    smallest = min(SMALLEST_SUBSET, max(count // 10, 2)) if smallest is None else smallest
    whole_number("smallest", smallest, least=2, greatest=count - 1, do="Generate more samples.")
    sizes = np.linspace(smallest, count, points).astype(np.int64)
    fixed = _moments(reference)
    generator = np.random.default_rng(whole_number("seed", seed, least=0))
    distances = np.asarray(
        [frechet_from_moments(_moments(generated[generator.permutation(count)[:size]]), fixed) for size in sizes]
    )
    design = np.stack([np.ones(points), 1 / sizes], axis=1)
    (value, slope), *_ = np.linalg.lstsq(design, distances, rcond=None)
    unit = float(np.abs(distances).max()) or 1.0
    residual = (distances - design @ [value, slope]) / unit
    variance = residual @ residual / (points - 2) if points > 2 else np.nan
    error = unit * float(np.sqrt(variance * np.linalg.inv(design.T @ design)[0, 0]))
    return FrechetInfinity(float(value), error, float(slope), sizes, distances)


@dataclass(frozen=True)
class Frechet(Metric):
    """`frechet_distance` of the two sets."""

    name: ClassVar = "frechet"
    summary: ClassVar = "Frechet distance of fitted Gaussians (FID on Inception features)"
    source: ClassVar = "Heusel et al. 2017"
    values: ClassVar = distances("frechet_distance")

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """Two covariances and their roots."""
        return 2 * (m + n) * d**2 + 30 * d**3

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """No interval: a bootstrap adds duplicates, which shifts the value itself."""
        return {"frechet_distance": MetricOutcome(frechet_distance(inputs.generated, inputs.training))}


@dataclass(frozen=True)
class FrechetExtrapolated(Metric):
    """`frechet_infinity` of the two sets."""

    name: ClassVar = "frechet_infinity"
    summary: ClassVar = "Frechet distance extrapolated to infinitely many samples"
    source: ClassVar = "Chong and Forsyth 2020"
    values: ClassVar = (MetricValue("frechet_infinity", "lower", "lower", -INFINITY, INFINITY),)
    points: int = POINTS

    def __post_init__(self) -> None:
        whole_number("points", self.points, least=2)

    @property
    def least(self) -> dict[str, int]:
        """Enough for a line."""
        return {"generated": 20, "training": 2}

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """A covariance per subset."""
        return 2 * (8 * m + n) * d**2 + 300 * d**3

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """No interval: the subsets of one line share samples, so its fit is far surer than the samples are."""
        found = frechet_infinity(inputs.generated, inputs.training, points=self.points, seed=inputs.seed)
        details = {
            "standard_error_of_fit": found.standard_error,
            "slope": found.slope,
            "sizes": found.sizes.tolist(),
            "distances": found.distances.tolist(),
        }
        return {"frechet_infinity": MetricOutcome(found.value, None, details)}


def _moments(value: Any) -> Moments:
    if isinstance(value, Moments):
        return value
    moments = Moments()
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(value), ROWS_PER_UPDATE):
            moments.update(value[start : start + ROWS_PER_UPDATE])
    return moments


def _from_few_rows(x: np.ndarray, y: np.ndarray) -> float:
    """With fewer rows than features: ``tr (C1 C2)^(1/2)`` is the nuclear norm of the product of the centred rows."""
    first, second = x.mean(axis=0), y.mean(axis=0)
    x, y = (x - first) / np.sqrt(len(x) - 1), (y - second) / np.sqrt(len(y) - 1)
    scale = _power_of_two_scale("features", *(np.square(np.abs(rows).max()) for rows in (x, y)))
    x, y = x * np.sqrt(scale), y * np.sqrt(scale)
    overlap = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return _assemble(first, second, (np.vdot(x, x) + np.vdot(y, y)) / scale, overlap / scale)


def _power_of_two_scale(name: str, *variances: Any) -> float:
    """A power of four that brings the largest variance near 1: products of variances stay within float64.

    Raises:
        InputError: a variance is not finite.
    """
    largest = float(max(variances))
    if not np.isfinite(variances).all():
        raise InputError(
            name, expected="magnitudes whose square float64 holds", received="larger ones, or numbers that are not "
            "finite", do="Scale both sets by one number; the distance scales with its square.",
        )  # fmt: skip
    return float(4.0 ** -round(np.clip(np.log2(largest) / 2, -500, 500))) if largest > 0 else 1.0


def _assemble(first: np.ndarray, second: np.ndarray, traces: float, overlap: float) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        step = first - second
        value = float(step @ step + traces - 2 * overlap)
    if not np.isfinite(value):
        raise InputError(
            "features", expected="means and variances whose sum of squares float64 holds", received="larger ones",
            do="Scale both sets by one number; the distance scales with its square.",
        )  # fmt: skip
    return max(0.0, value)


def _factor(matrix: np.ndarray) -> np.ndarray:
    """F ``[d, rank]`` with ``F F^T`` the covariance; what is below its rounding would only enter as noise's root."""
    values, vectors = np.linalg.eigh(_symmetric(matrix))
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    return vectors[:, kept] * np.sqrt(values[kept])


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    return (matrix + matrix.T) / 2
