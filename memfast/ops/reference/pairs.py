"""Chosen pairs of rows, defined by the distances of ``memfast.ops.reference.nearest``."""

import numpy as np
import torch

from memfast.ops.arithmetic import ieee_arithmetic
from memfast.ops.reference.nearest import ELEMENTS_PER_STEP, range_search, squared_distances
from memfast.ops.rows import Rows


def candidates(queries: Rows, block: Rows, bound: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs up to each query's bound; see :func:`memfast.ops.candidates`."""
    query, row, distance = range_search(queries, block, float(max(bound.max(initial=0), 0)), None)
    kept = np.flatnonzero(distance <= bound[query])
    kept = kept[np.lexsort((row[kept], query[kept]))]
    return query[kept], row[kept], distance[kept]


@ieee_arithmetic(torch.device("cpu"))
def pair_distances(queries: Rows, block: Rows, pairs: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
    """Exact squared distances of pairs; see :func:`memfast.ops.pair_distances`."""
    integer = queries.dtype == block.dtype == "uint8"
    count, rows = queries.shape[0], block.shape[0]
    if pairs is None:
        query, row = (one.reshape(-1) for one in np.indices((count, rows)))
    else:
        query, row = np.repeat(np.arange(count), np.diff(pairs[0])), pairs[1]
    found = np.empty(len(row), np.int64 if integer else np.float64)
    step = max(1, ELEMENTS_PER_STEP // queries.shape[1])
    for start in range(0, len(row), step):
        some = slice(start, start + step)
        found[some] = squared_distances(queries[query[some]].to_float64(), block[row[some]].to_float64())
    return found if pairs is not None else found.reshape(count, rows)
