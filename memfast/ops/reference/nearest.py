"""Nearest neighbours, defined: int64 arithmetic for uint8 rows, float64 in one fixed order for float rows.

The order of a float sum: eight lanes, lane l adds (x-y)^2 of the elements l, l+8, l+16, ... one after the other; then
lane l takes lane l+4, then l+2, then l+1. Every backend repeats it, so their float64 distances agree bit for bit.
"""

import numpy as np
import torch

from memfast.ops.arithmetic import ieee_arithmetic
from memfast.ops.rows import MAX_MAGNITUDE, Rows, check_finite

LANES = 8
# Elements of the difference array that one step holds, to keep memory bounded.
ELEMENTS_PER_STEP = 1 << 22


@ieee_arithmetic(torch.device("cpu"))
def nearest(
    queries: Rows, block: Rows, k: int, bound: np.ndarray | None, exclude: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """The k nearest rows of ``block``; see :func:`memfast.ops.nearest`."""
    count, rows = queries.shape[0], block.shape[0]
    dtype, missing = _dtype(queries, block)
    distances: np.ndarray = np.empty((count, k), dtype)
    indices: np.ndarray = np.empty((count, k), np.int64)
    for start, squared in _blocks(queries, block):
        here = slice(start, start + len(squared))
        valid = _valid(squared, here, bound, exclude)
        squared = np.where(valid, squared, missing)
        order = np.lexsort((np.broadcast_to(np.arange(rows), squared.shape), ~valid, squared), axis=1)[:, :k]
        distances[here] = np.take_along_axis(squared, order, 1)
        indices[here] = np.where(np.take_along_axis(valid, order, 1), order, -1)
    return distances, indices, 0


@ieee_arithmetic(torch.device("cpu"))
def range_search(
    queries: Rows, block: Rows, radius_squared: float, exclude: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs within a radius; see :func:`memfast.ops.range_search`."""
    dtype, _ = _dtype(queries, block)
    found: list[tuple[np.ndarray, ...]] = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, dtype))]
    for start, squared in _blocks(queries, block):
        valid = _valid(squared, slice(start, start + len(squared)), None, exclude) & (squared <= radius_squared)
        query, index = np.nonzero(valid)
        values = squared[query, index]
        order = np.lexsort((index, values, query))
        found.append((query[order] + start, index[order], values[order]))
    query, index, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return query, index, values


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float64 squared distances ``[..]`` of rows ``x [.., D]`` and ``y [.., D]`` (broadcast), in the fixed order."""
    length = x.shape[-1]
    shape = np.broadcast_shapes(x.shape[:-1], y.shape[:-1])
    lanes = np.zeros((*shape, LANES))
    for start in range(0, length, LANES):
        difference = x[..., start : start + LANES] - y[..., start : start + LANES]
        lanes[..., : difference.shape[-1]] += difference * difference
    for width in (4, 2, 1):
        lanes = lanes[..., :width] + lanes[..., width : 2 * width]
    return lanes[..., 0]


def _blocks(queries: Rows, block: Rows):
    """(first query, squared distances [some queries, M]) over the queries."""
    _check(queries)
    _check(block)
    integer = queries.dtype == block.dtype == "uint8"
    points = block.to_float64()
    # In float64 every integer below 2**53 is exact, so the product form serves the integers.
    norms = np.einsum("md,md->m", points, points) if integer else None
    step = max(1, ELEMENTS_PER_STEP // (len(points) * (1 if integer else LANES)))
    for start in range(0, queries.shape[0], step):
        here = queries[start : start + step].to_float64()
        if integer:
            squared = np.einsum("qd,qd->q", here, here)[:, None] + norms - 2 * (here @ points.T)
            yield start, squared.astype(np.int64)
        else:
            yield start, squared_distances(here[:, None], points[None])


def _valid(squared: np.ndarray, here: slice, bound: np.ndarray | None, exclude: np.ndarray | None) -> np.ndarray:
    valid = np.ones(squared.shape, bool) if bound is None else squared <= bound[here, None]
    if exclude is not None:
        valid &= np.arange(squared.shape[1]) != exclude[here, None]
    return valid


def _dtype(queries: Rows, block: Rows) -> tuple[type, float]:
    if queries.dtype == block.dtype == "uint8":
        return np.int64, np.iinfo(np.int64).max
    return np.float64, np.inf


def _check(rows: Rows) -> None:
    if rows.dtype == "uint8":
        return
    step = max(1, ELEMENTS_PER_STEP // rows.shape[1])
    for start in range(0, rows.shape[0], step):
        largest = np.abs(rows[start : start + step].to_float64()).max(1)
        bad = np.flatnonzero(~(largest <= MAX_MAGNITUDE))
        if len(bad):
            check_finite(rows, start + int(bad[0]))
