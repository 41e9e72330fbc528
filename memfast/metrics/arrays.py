"""What every metric asks of its arrays, and the one error for each thing that can be wrong with them."""

from typing import Any

import numpy as np
import torch

from memfast.foundation.errors import InputError

ROWS_PER_CHECK = 4096


def as_matrix(name: str, value: Any, *, minimum: int = 1, dtype: Any = np.float64) -> np.ndarray:
    """``value`` as a finite C-ordered matrix ``[n, d]``; items of any shape are flattened, ``[n]`` is ``[n, 1]``.

    Args:
        name: what the error calls it.
        value: an array or a tensor ``[n]``, ``[n, d]`` or ``[n, ...]``, of any real dtype.
        minimum: the fewest rows that the caller can work with.
        dtype: the dtype to return; None keeps a floating dtype and turns integers into float64.

    Raises:
        InputError: it is empty, too small, not real, or has a NaN or an infinity (the row is named).
    """
    array = value.detach().cpu().float() if _is_bfloat16(value) else value
    array = array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
    if array.dtype.kind not in "biuf":
        raise InputError(name, expected="real numbers", received=f"dtype {array.dtype}")
    if array.ndim == 0 or (array[:1].size == 0 and len(array)):
        raise InputError(name, expected="an array [n, d] with n and d of at least 1", received=f"shape {array.shape}")
    if len(array) < minimum:
        items = "row" if minimum == 1 else "rows"
        raise InputError(name, expected=f"at least {minimum} {items}", received=f"{len(array)}")
    array = array.reshape(len(array), -1)
    if dtype is None:
        dtype = array.dtype if array.dtype.kind == "f" else np.float64
    array = np.ascontiguousarray(array, dtype=dtype)
    _require_finite(name, array)
    return array


def as_matrices(names: tuple[str, ...], values: tuple[Any, ...], *, minimum: int = 1, dtype: Any = np.float64) -> list:
    """`as_matrix` of each value, all of one width.

    Raises:
        InputError: as `as_matrix`, or two of them differ in their number of features.
    """
    matrices = [as_matrix(name, value, minimum=minimum, dtype=dtype) for name, value in zip(names, values, strict=True)]
    for name, matrix in zip(names[1:], matrices[1:], strict=True):
        require_width(name, matrix, matrices[0].shape[1], names[0])
    return matrices


def require_width(name: str, matrix: np.ndarray, width: int, other: str) -> None:
    """Raise where ``matrix`` does not have ``width`` columns, the width of ``other``."""
    if matrix.shape[1] != width:
        raise InputError(
            name,
            expected=f"{width} features per row, as {other} has",
            received=f"{matrix.shape[1]}",
            do="Both sets must come from the same extractor and the same item shape.",
        )


def as_weights(name: str, weights: Any, count: int) -> np.ndarray | None:
    """``weights`` as float64 ``[count]`` that sum to 1, or None.

    Raises:
        InputError: another length, a negative or non-finite weight, or a sum of 0.
    """
    if weights is None:
        return None
    array = weights.detach().cpu().double().numpy() if isinstance(weights, torch.Tensor) else np.asarray(weights)
    if array.dtype.kind not in "biuf":
        raise InputError(name, expected="real numbers", received=f"dtype {array.dtype}")
    array = array.astype(np.float64)
    if array.shape != (count,):
        raise InputError(name, expected=f"one weight per row, shape ({count},)", received=f"shape {array.shape}")
    if not np.isfinite(array).all() or (array < 0).any() or not array.any():
        raise InputError(name, expected="finite weights of at least 0 with a positive sum", received="others")
    array = array / array.max()
    return array / array.sum()


def as_labels(name: str, labels: Any, count: int) -> np.ndarray:
    """``labels`` as int64 ``[count]``.

    Raises:
        InputError: another length, or values that are no integers.
    """
    array = np.asarray(labels.detach().cpu() if isinstance(labels, torch.Tensor) else labels)
    if array.shape != (count,):
        raise InputError(name, expected=f"one label per row, shape ({count},)", received=f"shape {array.shape}")
    if array.dtype.kind not in "biu":
        raise InputError(name, expected="integer labels", received=f"dtype {array.dtype}")
    return array.astype(np.int64)


def _require_finite(name: str, array: np.ndarray) -> None:
    for start in range(0, len(array), ROWS_PER_CHECK):
        bad = ~np.isfinite(array[start : start + ROWS_PER_CHECK]).all(axis=1)
        if bad.any():
            raise InputError(
                name,
                expected="finite values",
                received=f"a NaN or an infinity in row {start + int(np.argmax(bad))}",
                do="Remove that item, or repair what produced it.",
            )


def _is_bfloat16(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16
