"""Chosen pairs of rows by the C++ kernels. Signatures: ``memfast.ops.contract``."""

import numpy as np

from memfast.ops.compiled import CPU, load
from memfast.ops.cpu.nearest import address, search_struct
from memfast.ops.rows import Rows


def candidates(queries: Rows, block: Rows, bound: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs up to each query's bound; see :func:`memfast.ops.candidates`."""
    return load(CPU).candidates_uint8(search_struct(queries, block, 0, None), address(bound))


def pair_distances(queries: Rows, block: Rows, pairs: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
    """Exact squared distances of pairs; see :func:`memfast.ops.pair_distances`."""
    integer = queries.dtype == block.dtype == "uint8"
    shape = (queries.shape[0], block.shape[0]) if pairs is None else pairs[1].shape
    distances = np.empty(shape, np.int64 if integer else np.float64)
    if not distances.size:
        return distances
    compute = load(CPU).pair_distances_uint8 if integer else load(CPU).pair_distances_float
    starts, indices = pairs or (None, None)
    # A few rows of a large block are read: to check all of it would cost more than the distances.
    search = search_struct(queries, block, 0, None, check_block=False)
    compute(search, address(starts), address(indices), address(distances))
    return distances
