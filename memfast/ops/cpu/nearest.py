"""Nearest neighbours and range search by the C++ kernels. Signatures: ``memfast.ops.contract``."""

from typing import Any

import numpy as np
import torch

from memfast.ops.compiled import CPU, load
from memfast.ops.rows import MAX_MAGNITUDE, Rows, check_finite


def nearest(
    queries: Rows, block: Rows, k: int, bound: np.ndarray | None, exclude: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """The k nearest rows of ``block``; see :func:`memfast.ops.nearest`."""
    integer = queries.dtype == block.dtype == "uint8"
    shape = (queries.shape[0], k)
    distances, indices = np.empty(shape, np.int64 if integer else np.float64), np.empty(shape, np.int64)
    compute = load(CPU).nearest_uint8 if integer else load(CPU).nearest_float
    fallbacks = compute(search_struct(queries, block, k, exclude), address(bound), address(distances), address(indices))
    return distances, indices, fallbacks


def range_search(
    queries: Rows, block: Rows, radius_squared: float, exclude: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs within a radius; see :func:`memfast.ops.range_search`."""
    search = search_struct(queries, block, 0, exclude)
    if queries.dtype == block.dtype == "uint8":
        return load(CPU).range_search_uint8(search, int(min(radius_squared, 2.0**62)))
    return load(CPU).range_search_float(search, radius_squared)


def search_struct(queries: Rows, block: Rows, k: int, exclude: np.ndarray | None, *, check_block: bool = True) -> Any:
    """The kernels' request, of rows that hold finite numbers; ``check_block=False`` where the block's are known to."""
    if not queries.dtype == block.dtype == "uint8":
        _check(queries)
        if check_block:
            _check(block)
    views = _view(queries), _view(block)
    return load(CPU).Search(*views, k=k, exclude=address(exclude), threads=torch.get_num_threads())


def _check(rows: Rows) -> None:
    if rows.dtype == "uint8":
        return
    row = load(CPU).first_bad_row(_view(rows), MAX_MAGNITUDE, torch.get_num_threads())
    if row >= 0:
        check_finite(rows, row)


def _view(rows: Rows) -> Any:
    kernels, values = load(CPU), rows.values
    dtype = getattr(kernels.NumberType, rows.dtype)
    return kernels.Rows(values.ctypes.data, len(values), values.shape[1], values.strides[0], dtype)


def address(array: np.ndarray | None) -> int:
    """Where an array's numbers are; 0 for None."""
    return 0 if array is None else array.ctypes.data
