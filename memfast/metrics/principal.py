"""Principal components fitted on one set, for projections of others."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from memfast.foundation.arguments import seed_number, whole_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrix, require_width

EXACT_ENTRIES = 20_000_000
OVERSAMPLING = 16
POWER_ITERATIONS = 7
SOLVERS = ("auto", "full", "randomized")


@dataclass(frozen=True)
class PrincipalComponents:
    """A fitted projection.

    Attributes:
        mean: ``[d]`` of the fitted rows.
        components: orthonormal rows ``[k, d]``, by falling variance; the largest entry of each is positive.
        explained_variance: ``[k]``, unbiased.
        total_variance: of all features.
    """

    mean: np.ndarray
    components: np.ndarray
    explained_variance: np.ndarray
    total_variance: float

    @classmethod
    def fit(cls, rows: Any, count: int, *, solver: str = "auto", seed: int = 0) -> "PrincipalComponents":
        """Fit on ``rows`` ``[n, d]``.

        Args:
            rows: the set to fit on; by paper 1's convention the training set only.
            count: components, at most ``min(n - 1, d)``.
            solver: ``full`` (SVD in float64), ``randomized`` (Halko et al. 2011, for large sets), or ``auto``: full
                up to 20 million values.
            seed: of the randomized solver.

        Raises:
            InputError: too many components for the rows, a constant set, an unknown solver.
        """
        matrix = as_matrix("rows", rows, minimum=2)
        most = min(len(matrix) - 1, matrix.shape[1])
        whole_number("components", count, least=1, greatest=most, do=f"{matrix.shape} rows and features allow {most}.")
        if solver not in SOLVERS:
            raise InputError("solver", expected=f"one of {', '.join(SOLVERS)}", received=repr(solver))
        mean = matrix.mean(axis=0)
        centred = matrix - mean
        with np.errstate(over="ignore", invalid="ignore"):
            total = float(np.vdot(centred, centred)) / (len(matrix) - 1)
        if not np.isfinite(total):
            raise InputError("rows", expected="magnitudes whose square float64 holds", received="larger ones")
        if total == 0 or (matrix == matrix[0]).all():
            raise InputError("rows", expected="features that vary", received="rows that are all equal")
        randomized = solver == "randomized" or (solver == "auto" and matrix.size > EXACT_ENTRIES)
        values, components = (_randomized if randomized else _full)(centred, count, seed)
        signs = np.sign(components[np.arange(count), np.abs(components).argmax(axis=1)])
        return cls(mean, components * signs[:, None], values**2 / (len(matrix) - 1), total)

    def transform(self, rows: Any) -> np.ndarray:
        """Coordinates float64 ``[n, k]`` of ``rows`` ``[n, d]``."""
        matrix = as_matrix("rows", rows)
        require_width("rows", matrix, len(self.mean), "the fitted set")
        return (matrix - self.mean) @ self.components.T

    @property
    def explained_variance_ratio(self) -> np.ndarray:
        """Share of the total variance of each component, ``[k]``, 0 to 1."""
        return self.explained_variance / self.total_variance


def _full(centred: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    _, values, components = torch.linalg.svd(torch.from_numpy(centred), full_matrices=False)
    return values[:count].numpy(), components[:count].numpy()


def _randomized(centred: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    matrix = torch.from_numpy(centred)
    generator = torch.Generator().manual_seed(seed_number("seed", seed))
    width = min(count + OVERSAMPLING, *matrix.shape)
    basis = matrix @ torch.randn(matrix.shape[1], width, generator=generator, dtype=matrix.dtype)
    for _ in range(POWER_ITERATIONS):
        basis = torch.linalg.qr(basis).Q
        basis = matrix @ torch.linalg.qr(matrix.T @ basis).Q
    basis = torch.linalg.qr(basis).Q
    _, values, components = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
    return values[:count].numpy(), components[:count].numpy()
