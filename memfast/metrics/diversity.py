"""The Vendi score: the effective number of different samples."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch

from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_labels, as_matrix, as_weights
from memfast.metrics.base import INFINITY, Metric, MetricInputs, MetricOutcome, MetricValue

ORDER = 1.0
KERNELS = ("cosine", "rbf", "precomputed")
SYMMETRY = 1e-8

Kernel = Callable[[np.ndarray, np.ndarray], Any]


def vendi(
    features: Any,
    *,
    order: float = ORDER,
    normalize: bool = True,
    weights: Any = None,
    kernel: str | Kernel = "cosine",
    bandwidth: float | None = None,
) -> float:
    """``exp`` of the entropy of the eigenvalues of the weighted similarity matrix: 1 to n.

    1 where all rows are alike, n where all are different; higher is more diverse. It knows no training set: a generator
    that copies a diverse one scores high.

    Args:
        features: ``[n, d]``; with ``kernel="precomputed"`` the similarity matrix ``[n, n]``.
        order: of the Renyi entropy; 1 is Shannon's, infinity looks at the largest eigenvalue only.
        normalize: ``cosine`` only: scale rows to length one. Without it the score has no meaning unless the rows have
            length one already.
        weights: ``[n]``, at least 0: the probability of each sample; None means equal.
        kernel: ``cosine``, ``rbf``: ``exp(-|x-y|^2 / (2 bandwidth^2))``, ``precomputed``, or a function of two sets of
            rows ``[a, d]`` and ``[b, d]`` that gives their similarities ``[a, b]``.
        bandwidth: of ``rbf``; None takes the median distance within ``features``.

    Raises:
        InputError: rows of zeros (``cosine``), a matrix that is not symmetric with ones on its diagonal or has negative
            eigenvalues, bad weights, an unknown kernel.

    Source: Friedman and Dieng 2023; orders other than 1: Pasarkar and Dieng 2024.

    >>> round(vendi([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]), 4)
    1.8899
    >>> round(vendi([[1.0, 0.0], [0.0, 1.0]], weights=[3, 1]), 4)
    1.7548
    """
    rows = as_matrix("features", features)
    if not (isinstance(order, Real) and order == math.inf):
        finite_number("order", order, above=0, do="Infinity is allowed too.")
    weighting = as_weights("weights", weights, len(rows))
    if isinstance(kernel, str) and kernel == "cosine":
        values = _cosine_eigenvalues(_unit_rows(rows) if normalize else rows, weighting)
    else:
        matrix = _similarities(rows, kernel, bandwidth)
        values = np.linalg.eigvalsh(matrix * (1 / len(rows) if weighting is None else _outer_root(weighting)))
        if values[0] < -SYMMETRY * len(rows):
            raise InputError(
                "kernel", expected="a positive semi-definite similarity", received=f"an eigenvalue of {values[0]:.3g}"
            )
    # An order below 1 weighs rounding errors of eigenvalues that are 0 as if they were samples.
    values = values[values > len(rows) * np.finfo(np.float64).eps * values.max()]
    if order == 1:
        return float(np.exp(-(values * np.log(values)).sum()))
    if np.isinf(order):
        return float(1 / values.max())
    return float((values**order).sum() ** (1 / (1 - order)))


def vendi_per_class(features: Any, labels: Any, **options: Any) -> dict[int, float]:
    """The Vendi score of each class's rows: label -> score.

    Raises:
        InputError: ``labels`` of another length.
    """
    rows = as_matrix("features", features)
    classes = as_labels("labels", labels, len(rows))
    return {int(label): vendi(rows[classes == label], **options) for label in np.unique(classes)}


@dataclass(frozen=True)
class Vendi(Metric):
    """`vendi` of the generated samples."""

    name: ClassVar = "vendi"
    summary: ClassVar = "effective number of different samples"
    source: ClassVar = "Friedman and Dieng 2023"
    values: ClassVar = (MetricValue("vendi", "higher", "none", 1.0, INFINITY),)
    order: float = ORDER
    kernel: str = "cosine"

    def __post_init__(self) -> None:
        if self.order != math.inf:
            finite_number("order", self.order, above=0)
        if self.kernel not in ("cosine", "rbf"):
            raise InputError("kernel", expected="'cosine' or 'rbf'", received=repr(self.kernel))

    @property
    def least(self) -> dict[str, int]:
        """One sample is one sample."""
        return {"generated": 1, "training": 1}

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """A Gram matrix and its eigenvalues, of both sets."""
        return 2 * (m * d * min(m, d) + n * d * min(n, d)) + 9 * (min(m, d) ** 3 + min(n, d) ** 3)

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """Rows of zeros have no direction and are left out; the training set's score is given beside."""
        options: dict[str, Any] = {"order": self.order, "kernel": self.kernel}
        details = {"training": vendi(_directed("training", inputs.training), **options)}
        return {"vendi": MetricOutcome(vendi(_directed("generated", inputs.generated), **options), None, details)}


def _directed(name: str, rows: np.ndarray) -> np.ndarray:
    kept = rows[rows.any(axis=1)]
    if not len(kept):
        raise InputError(name, expected="a sample that is not all zeros", received="zeros only")
    return kept


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    largest = np.abs(rows).max(axis=1, keepdims=True)
    if not largest.all():
        raise InputError(
            "features", expected="rows other than zero", received=f"zeros in row {int(np.argmin(largest))}"
        )
    # Squares of very large or small numbers would leave float64; a power of two changes no digit.
    rows = np.ldexp(rows, -np.frexp(largest)[1])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _cosine_eigenvalues(rows: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Of ``X X^T`` weighted, or of ``X^T X``, which has the same and may be smaller."""
    scale = len(rows) if weights is None else 1.0
    matrix = torch.from_numpy(rows if weights is None else rows * np.sqrt(weights)[:, None])
    product = matrix @ matrix.T if len(rows) <= rows.shape[1] else matrix.T @ matrix
    if not bool(product.isfinite().all()):
        raise InputError("features", expected="magnitudes whose square float64 holds", received="larger ones")
    return torch.linalg.eigvalsh(product / scale).numpy()


def _outer_root(weights: np.ndarray) -> np.ndarray:
    root = np.sqrt(weights)
    return np.outer(root, root)


def _similarities(rows: np.ndarray, kernel: str | Kernel, bandwidth: float | None) -> np.ndarray:
    if callable(kernel):
        matrix = as_matrix("kernel(features, features)", kernel(rows, rows))
    elif kernel == "precomputed":
        matrix = rows
    elif kernel == "rbf":
        from memfast.metrics.kernel import kernel_function

        matrix = kernel_function("rbf", rows, bandwidth)[0](rows, rows)
        np.fill_diagonal(matrix, 1.0)
    else:
        raise InputError("kernel", expected=f"one of {', '.join(KERNELS)} or a function", received=repr(kernel))
    if matrix.shape != (len(rows), len(rows)):
        raise InputError(
            "kernel", expected=f"similarities [{len(rows)}, {len(rows)}]", received=f"shape {list(matrix.shape)}"
        )
    if np.abs(matrix - matrix.T).max() > SYMMETRY or np.abs(np.diagonal(matrix) - 1).max() > SYMMETRY:
        raise InputError(
            "kernel", expected="a symmetric similarity, 1 of each sample with itself", received="another one"
        )
    return (matrix + matrix.T) / 2
