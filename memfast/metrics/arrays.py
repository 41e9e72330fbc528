"""What every metric asks of its arrays, and the one error for each thing that can be wrong with them."""

from typing import Any

import numpy as np

from memfast.foundation.arrays import plain_array
from memfast.foundation.errors import InputError

ROWS_PER_CHECK = 4096
GREATEST_MAGNITUDE = 1e150


def as_matrix(name: str, value: Any, *, minimum: int = 1, dtype: Any = np.float64) -> np.ndarray:
    """``value`` as a finite C-ordered matrix ``[n, d]``; items of any shape are flattened, ``[n]`` is ``[n, 1]``.

    Args:
        name: what the error calls it.
        value: an array or a tensor ``[n]``, ``[n, d]`` or ``[n, ...]``, of any real dtype.
        minimum: the fewest rows that the caller can work with.
        dtype: the dtype to return; None keeps a floating dtype and turns integers into float64.

    Raises:
        InputError: it is empty, too small, masked, sparse or not real, or has a NaN or an infinity (the row is named).
    """
    array = plain_array(name, value)
    if array.dtype.kind not in "biuf":
        raise InputError(name, expected="real numbers", received=f"dtype {array.dtype}")
    if array.ndim == 0 or (array[:1].size == 0 and len(array)):
        raise InputError(name, expected="an array [n, d] with n and d of at least 1", received=f"shape {array.shape}")
    if len(array) < minimum:
        items = "row" if minimum == 1 else "rows"
        raise InputError(name, expected=f"at least {minimum} {items}", received=f"{len(array)}")
    array = array.reshape(len(array), -1)
    if dtype is None:
        dtype = array.dtype if array.dtype.kind == "f" and array.dtype.itemsize <= 8 else np.float64
    with np.errstate(over="ignore"):
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


def as_vector(name: str, value: Any, *, minimum: int = 1) -> np.ndarray:
    """``value`` as finite float64 ``[n]``: one number per item. ``[n, 1]`` counts as ``[n]``.

    Raises:
        InputError: as `as_matrix`, or more than one number per item.

    >>> as_vector("distances", [[1], [2]])
    array([1., 2.])
    """
    matrix = as_matrix(name, value, minimum=minimum)
    if matrix.shape[1] != 1:
        raise InputError(
            name, expected="one number per item, shape [n]", received=f"{matrix.shape[1]} numbers per item",
            do="Pass one column, or use a function of several features.",
        )  # fmt: skip
    return matrix[:, 0]


def require_width(name: str, matrix: np.ndarray, width: int, other: str) -> None:
    """Raise where ``matrix`` does not have ``width`` columns, the width of ``other``."""
    if matrix.shape[1] != width:
        raise InputError(
            name,
            expected=f"{width} features per row, as {other} has",
            received=f"{matrix.shape[1]}",
            do="Both sets must come from the same extractor and the same item shape.",
        )


def require_magnitude(names: tuple[str, ...], matrices: tuple[np.ndarray, ...]) -> None:
    """Raise where a number is so large that float64 would not hold a squared distance.

    Raises:
        InputError: a magnitude above 1e150.
    """
    for name, matrix in zip(names, matrices, strict=True):
        largest = float(np.abs(matrix).max())
        if largest > GREATEST_MAGNITUDE:
            raise InputError(
                name, expected=f"magnitudes up to {GREATEST_MAGNITUDE:g}", received=f"{largest:.3g}",
                do="Scale all sets by one number.",
            )  # fmt: skip


def as_weights(name: str, weights: Any, count: int, *, normalize: bool = True) -> np.ndarray | None:
    """``weights`` as float64 ``[count]`` that sum to 1 (as given without ``normalize``), or None.

    Raises:
        InputError: another length, a negative or non-finite weight, or a sum of 0.
    """
    if weights is None:
        return None
    array = plain_array(name, weights)
    if array.dtype.kind not in "biuf":
        raise InputError(name, expected="real numbers", received=f"dtype {array.dtype}")
    array = array.astype(np.float64)
    if array.shape != (count,):
        raise InputError(name, expected=f"one weight per row, shape ({count},)", received=f"shape {array.shape}")
    if not np.isfinite(array).all() or (array < 0).any() or not array.any():
        raise InputError(
            name,
            expected="finite weights of at least 0 with a positive sum",
            received="a negative one, a NaN, an infinity or only zeros",
        )
    if not normalize:
        return array
    array = array / array.max()
    return array / array.sum()


def as_labels(name: str, labels: Any, count: int) -> np.ndarray:
    """``labels`` as int64 ``[count]``.

    Raises:
        InputError: another length, or values that are no integers.
    """
    array = plain_array(name, labels)
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
