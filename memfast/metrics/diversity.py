"""The Vendi score: the effective number of different samples."""

import math
from numbers import Real
from typing import Any

import numpy as np
import torch

from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_labels, as_matrix

ORDER = 1.0


def vendi(features: Any, *, order: float = ORDER, normalize: bool = True) -> float:
    """``exp`` of the entropy of the eigenvalues of the similarity matrix over n (cosine similarity): 1 to n.

    1 where all rows point the same way, n where all are orthogonal; higher is more diverse. It knows no training set:
    a generator that copies a diverse one scores high.

    Args:
        features: ``[n, d]``.
        order: of the Renyi entropy; 1 is Shannon's, infinity looks at the largest eigenvalue only.
        normalize: scale rows to length one, without which the score has no meaning.

    Source: Friedman and Dieng 2023.

    >>> round(vendi([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]), 4)
    1.8899
    """
    rows = as_matrix("features", features)
    if not (isinstance(order, Real) and order == math.inf):
        finite_number("order", order, above=0, do="Infinity is allowed too.")
    if normalize:
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        if not norms.all():
            raise InputError(
                "features", expected="rows other than zero", received=f"zeros in row {int(np.argmin(norms))}"
            )
        rows = rows / norms
    matrix = torch.from_numpy(rows)
    product = matrix @ matrix.T if len(rows) <= rows.shape[1] else matrix.T @ matrix
    values = torch.linalg.eigvalsh(product / len(rows)).numpy()
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
