"""Nearest neighbours by the C++ kernels."""

from typing import Any

import numpy as np
import torch

from memfast.ops.rows import KINDS, MAX_MAGNITUDE, Rows, check_finite

# The order of the enum NumberKind in csrc/cpu/nearest.h.
_KIND_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}


def nearest(
    queries: Rows, block: Rows, k: int, bound: np.ndarray | None, exclude: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """The k nearest rows of ``block``; see :func:`memfast.ops.nearest.nearest`."""
    from memfast import _C

    integer = queries.kind == block.kind == "uint8"
    shape = (queries.shape[0], k)
    distances, indices = np.empty(shape, np.int64 if integer else np.float64), np.empty(shape, np.int64)
    if not integer:
        _check(queries)
        _check(block)
    function = _C.nearest_uint8 if integer else _C.nearest_float
    fallbacks = function(
        _tuple(queries), _tuple(block), k, _address(bound), _address(exclude), _address(distances), _address(indices),
        torch.get_num_threads(),
    )  # fmt: skip
    return distances, indices, fallbacks or 0


def within(
    queries: Rows, block: Rows, radius_squared: float, exclude: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs within a radius; see :func:`memfast.ops.nearest.within`."""
    from memfast import _C

    threads = torch.get_num_threads()
    if queries.kind == block.kind == "uint8":
        radius = int(min(radius_squared, 2.0**62))
        return _C.within_uint8(_tuple(queries), _tuple(block), radius, _address(exclude), threads)
    _check(queries)
    _check(block)
    return _C.within_float(_tuple(queries), _tuple(block), radius_squared, _address(exclude), threads)


def _check(rows: Rows) -> None:
    from memfast import _C

    if rows.kind == "uint8":
        return
    row = _C.first_bad_row(_tuple(rows), MAX_MAGNITUDE, torch.get_num_threads())
    if row >= 0:
        check_finite(rows, row)


def _tuple(rows: Rows) -> tuple[int, int, int, int, int]:
    values = rows.values
    return values.ctypes.data, len(values), values.shape[1], values.strides[0], _KIND_NUMBERS[rows.kind]


def _address(array: Any) -> int:
    return 0 if array is None else array.ctypes.data
