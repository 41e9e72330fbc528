"""Lists of the k nearest, merged exactly: ascending distances, ties by lowest index."""

import numpy as np

from memfast.runtime.distributed import Ranks

NOBODY = -1
_MERGE_QUERIES = 1 << 14


def fill_value(dtype: np.dtype) -> float | int:
    """The distance that stands for "no neighbour yet": larger than any real one."""
    return np.iinfo(dtype).max if dtype.kind == "i" else np.inf


class RunningTopK:
    """The k nearest of the rows seen so far, for a group of queries.

    Blocks of rows must come in ascending order of index: then a stable sort by distance alone breaks ties by index.
    """

    def __init__(self, queries: int, k: int, dtype: np.dtype) -> None:
        self.squared_distances = np.full((queries, k), fill_value(dtype), dtype)
        self.indices = np.full((queries, k), NOBODY, np.int64)
        self.fallbacks = 0

    @classmethod
    def of(cls, squared_distances: np.ndarray, indices: np.ndarray, fallbacks: int) -> "RunningTopK":
        """Lists that were kept somewhere."""
        lists = cls.__new__(cls)
        lists.squared_distances, lists.indices, lists.fallbacks = squared_distances, indices, fallbacks
        return lists

    def bound(self, first: int, last: int) -> np.ndarray:
        """The k-th distances of queries ``first`` to ``last``: a farther row cannot enter their lists."""
        return np.ascontiguousarray(self.squared_distances[first:last, -1])

    def merge(self, first: int, squared_distances: np.ndarray, indices: np.ndarray) -> None:
        """Merge sorted lists (of later rows) into the lists of the queries from ``first`` on."""
        if not squared_distances.shape[1]:
            return
        last, k = first + len(squared_distances), self.indices.shape[1]
        better = np.flatnonzero(squared_distances[:, 0] < self.squared_distances[first:last, -1])
        if not len(better):
            return
        here = first + better
        distances = np.concatenate([self.squared_distances[here], squared_distances[better]], axis=1)
        candidates = np.concatenate([self.indices[here], indices[better]], axis=1)
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        self.squared_distances[here] = np.take_along_axis(distances, order, axis=1)
        self.indices[here] = np.take_along_axis(candidates, order, axis=1)


def merge_lists(squared_distances: np.ndarray, indices: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best of lists ``[L, Q, k]`` that come in any order of index."""
    distances = np.concatenate(list(squared_distances), axis=1)
    candidates = np.concatenate(list(indices), axis=1)
    order = np.lexsort((candidates, distances), axis=1)[:, :k]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(candidates, order, axis=1)


def merge_ranks(
    ranks: Ranks, squared_distances: np.ndarray, indices: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k best of all ranks' lists ``[Q, k]``: exact, the same bits on every rank."""
    if ranks.size == 1:
        return squared_distances, indices
    for start in range(0, len(indices), _MERGE_QUERIES):
        some = slice(start, start + _MERGE_QUERIES)
        both = [ranks.gather(part[some]) for part in (squared_distances, indices)]
        squared_distances[some], indices[some] = merge_lists(both[0], both[1], k)
    return squared_distances, indices
