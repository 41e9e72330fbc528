"""Chosen pairs of rows: those below a limit of each query, and the exact distances of given ones.

A search by lower bounds (``memfast.neighbors.sketch``) asks for ``candidates`` among short rows that stand for long
ones, then ``pair_distances`` of the long ones.
"""

from typing import Any

import numpy as np

from memfast.foundation.errors import InputError
from memfast.ops.nearest import bounds_of, row_pair
from memfast.ops.registry import implementation


def candidates(
    queries: Any, block: Any, bound: Any, *, backend: str = "auto"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of uint8 rows at a squared distance of at most their query's bound.

    Args:
        queries: uint8 ``[Q, D]``.
        block: uint8 ``[M, D]``.
        bound: ``[Q]`` squared distances; pairs at the bound belong to the result, a negative bound lets none pass.
        backend: a backend's name or ``auto``.

    Returns:
        (query int64 ``[n]``, row int64 ``[n]``, squared distance int64 ``[n]``), sorted by query and row.

    Raises:
        InputError: other dtypes, or shapes that do not fit.

    >>> candidates(np.array([[3], [9]], np.uint8), np.array([[7], [2], [4]], np.uint8), [1, 4])[1].tolist()
    [1, 2, 0]
    """
    query_rows, block_rows = row_pair(queries, block)
    if not query_rows.dtype == block_rows.dtype == "uint8":
        raise InputError("queries and block", expected="uint8 rows", received=f"{query_rows.dtype}, {block_rows.dtype}")
    limit = bounds_of(bound, len(query_rows.values), integer=True)
    if limit is None:
        raise InputError("bound", expected="one number per query", received="None")
    if not len(block_rows.values) or not len(query_rows.values):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
    return implementation("candidates", block_rows.device, backend)(query_rows, block_rows, limit)


def pair_distances(
    queries: Any, block: Any, starts: Any = None, indices: Any = None, *, backend: str = "auto"
) -> np.ndarray:
    """Exact squared distances of chosen pairs of rows: the numbers that ``nearest`` gives for them.

    The block's numbers must be finite; they are not checked, as most of its rows are not read.

    Args:
        queries: ``[Q, D]``, as for :func:`memfast.ops.nearest`.
        block: ``[M, D]``.
        starts: int64 ``[Q + 1]``: the rows of query q are ``indices[starts[q]:starts[q + 1]]``. None: all pairs.
        indices: int64 ``[n]``, row numbers of the block.
        backend: a backend's name or ``auto``.

    Returns:
        int64 for uint8 rows, float64 otherwise: ``[n]`` in the order of ``indices``, or ``[Q, M]`` for all pairs.

    Raises:
        InputError: shapes or dtypes that do not fit, row numbers outside the block, NaN or infinity
            among the queries.

    >>> rows = np.array([[7], [2], [4]], np.uint8)
    >>> pair_distances(rows[:2], rows, [0, 1, 3], [2, 0, 1]).tolist()
    [9, 25, 0]
    """
    query_rows, block_rows = row_pair(queries, block)
    count, rows = len(query_rows.values), len(block_rows.values)
    if (starts is None) != (indices is None):
        raise InputError("starts and indices", expected="both or neither", received="one of them")
    if starts is None:
        pairs = None
    else:
        first, chosen = (np.require(one, np.int64, ["C", "A"]) for one in (starts, indices))
        bad = first.shape != (count + 1,) or chosen.ndim != 1 or first[0] != 0 or first[-1] != len(chosen)
        if bad or (np.diff(first) < 0).any():
            raise InputError(
                "starts", expected=f"{count + 1} ascending places from 0 to {len(chosen)}", received=f"{first[:5]}..."
            )
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < rows):
            raise InputError("indices", expected=f"row numbers from 0 to {rows - 1}", received="others")
        pairs = first, chosen
    return implementation("pair_distances", block_rows.device, backend)(query_rows, block_rows, pairs)
