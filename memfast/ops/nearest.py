"""Exact nearest neighbours within one block that is in memory; the larger searches are made of these.

uint8 rows give exact integer squared distances. Float rows give the float64 sum of squared differences, added in one
fixed order (``docs/exactness.md``), whatever cheaper arithmetic found the candidates. Ties go to the lowest index.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.arrays import plain_array
from memfast.foundation.errors import InputError
from memfast.ops.registry import implementation
from memfast.ops.rows import Rows, as_rows

# The search packs a squared distance and a row number into one signed 64-bit number: one comparison orders both.
PACKED_BITS = 63


@dataclass(frozen=True)
class BlockNeighbors:
    """The nearest rows of a block.

    Attributes:
        squared_distances: ``[Q, min(k, M)]``, ascending; int64 for uint8 rows, float64 for float rows. A place with no
            neighbour holds the dtype's maximum, or infinity.
        indices: int64 ``[Q, min(k, M)]``, row numbers in the block; -1 where there is no neighbour.
        fallbacks: how many queries of a float dtype needed more than the first screen.
    """

    squared_distances: np.ndarray
    indices: np.ndarray
    fallbacks: int


def nearest(
    queries: Any, block: Any, k: int, *, bound: Any = None, exclude: Any = None, backend: str = "auto"
) -> BlockNeighbors:
    """The k nearest rows of ``block`` for each query, exactly; ties by the lowest index.

    Args:
        queries: ``[Q, D]``, an array or tensor of uint8, float16, bfloat16, float32 or float64.
        block: ``[M, D]``, likewise. If only one of the two is uint8, both are treated as floats, which loses nothing.
        k: how many neighbours; min(k, M) columns come back.
        bound: ``[Q]`` squared distances; rows farther than their query's bound are left out.
        exclude: int64 ``[Q]``, one row number of the block to leave out for each query; -1 leaves none out.
        backend: a backend's name or ``auto``.

    Raises:
        InputError: shapes or dtypes that do not fit, k < 1, an empty block, NaN or infinity (the row is named),
            magnitudes above 1e150, or more than 2**31 - 1 rows.
        BackendUnavailableError: the backend asked for cannot compute this here.

    >>> found = nearest(np.array([[3]], np.uint8), np.array([[7], [2], [4]], np.uint8), k=2)
    >>> found.squared_distances.tolist(), found.indices.tolist()
    ([[1, 1]], [[1, 2]])
    """
    query_rows, block_rows = row_pair(queries, block)
    count = len(query_rows.values)
    k = whole_number("k", k, least=1)
    if len(block_rows.values) == 0:
        raise InputError("block", expected="at least one row", received="an empty block")
    integer = block_rows.dtype == query_rows.dtype == "uint8"
    limit = bounds_of(bound, count, integer=integer)
    left_out = _exclude(exclude, count)
    compute = implementation("nearest", block_rows.device, backend)
    distances, indices, fallbacks = compute(query_rows, block_rows, min(k, len(block_rows.values)), limit, left_out)
    return BlockNeighbors(distances, indices, fallbacks)


def range_search(
    queries: Any, block: Any, radius_squared: float, *, exclude: Any = None, backend: str = "auto"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs at a squared distance of at most ``radius_squared``, exactly.

    Args:
        queries: ``[Q, D]``, as for :func:`nearest`.
        block: ``[M, D]``.
        radius_squared: in squared units of the data, 0 or more; pairs on the radius belong to the result.
        exclude: int64 ``[Q]``, one row of the block to leave out for each query; -1 leaves none out.
        backend: a backend's name or ``auto``.

    Returns:
        (query int64 ``[n]``, index int64 ``[n]``, squared distance int64 or float64 ``[n]``), sorted by query, then
        distance, then index.

    Raises:
        InputError: as for :func:`nearest`.

    >>> range_search(np.array([[3]], np.uint8), np.array([[7], [2], [4]], np.uint8), 1)[1].tolist()
    [1, 2]
    """
    query_rows, block_rows = row_pair(queries, block)
    radius_squared = finite_number("radius_squared", radius_squared, least=0)
    left_out = _exclude(exclude, len(query_rows.values))
    if len(block_rows.values) == 0:
        dtype = np.int64 if block_rows.dtype == query_rows.dtype == "uint8" else np.float64
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, dtype)
    compute = implementation("range_search", block_rows.device, backend)
    return compute(query_rows, block_rows, radius_squared, left_out)


def row_pair(queries: Any, block: Any) -> tuple[Rows, Rows]:
    """Both sides of a search, checked against each other."""
    query_rows, block_rows = as_rows(queries, "queries"), as_rows(block, "block")
    if query_rows.shape[1] != block_rows.shape[1]:
        raise InputError(
            "block", expected=f"rows of length {query_rows.shape[1]}, as the queries have",
            received=f"rows of length {block_rows.shape[1]}",
        )  # fmt: skip
    if query_rows.device != block_rows.device:
        raise InputError("block", expected=f"data on {query_rows.device}", received=f"data on {block_rows.device}")
    if query_rows.dtype == block_rows.dtype == "uint8":
        rows, length = block_rows.shape
        if (255**2 * length).bit_length() + max(1, (rows - 1).bit_length()) > PACKED_BITS:
            raise InputError(
                "block", expected="rows and D whose distances and indices fit into 63 bits together",
                received=f"{rows} rows of length {length}", do="Search it in smaller blocks.",
            )  # fmt: skip
    return query_rows, block_rows


def bounds_of(bound: Any, count: int, *, integer: bool) -> np.ndarray | None:
    """A bound for each query, as the kernels take it."""
    if bound is None:
        return None
    values = plain_array("bound", bound)
    if values.shape != (count,):
        raise InputError("bound", expected=f"one number per query, shape [{count}]", received=f"shape {values.shape}")
    if values.dtype.kind not in "iuf" or (values.dtype.kind == "f" and np.isnan(values).any()):
        raise InputError("bound", expected="real numbers", received=f"{values.dtype}, or NaN among them")
    if not integer:
        return np.require(values, np.float64, ["C", "A"])
    # 2**62 is far above any squared distance, and the largest power of two that survives the casts.
    if values.dtype.kind == "f":
        values = np.floor(np.clip(values, -1, 2.0**62))
    elif values.dtype.kind == "u":
        values = np.minimum(values, np.uint64(2**62))
    return np.require(values, np.int64, ["C", "A"])


def _exclude(exclude: Any, count: int) -> np.ndarray | None:
    if exclude is None:
        return None
    values = plain_array("exclude", exclude)
    if values.shape != (count,) or values.dtype.kind not in "iu":
        raise InputError(
            "exclude", expected=f"one row number per query, shape [{count}]",
            received=f"{values.dtype} of shape {list(values.shape)}",
        )  # fmt: skip
    return np.require(values, np.int64, ["C", "A"])
