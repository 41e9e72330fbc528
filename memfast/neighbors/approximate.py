"""Approximate search on request: a faiss index proposes, the exact engine re-ranks, and the recall is measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from memfast import ops
from memfast.foundation.errors import InputError
from memfast.foundation.progress import Progress
from memfast.foundation.proportions import wilson
from memfast.neighbors.faiss_index import ApproximateIndex
from memfast.neighbors.precision import Converter
from memfast.neighbors.result import Neighbors, Recall
from memfast.neighbors.sets import Sets
from memfast.neighbors.topk import NOBODY, RunningTopK

RECALL_QUERIES = 100
CONFIDENCE = 0.95


def approximate_knn(
    queries: Any, database: Any, k: int, approximate: str | ApproximateIndex, *, exclude_self: bool, metric: str,
    memory: int | None, progress: bool, backend: str,
) -> Neighbors:  # fmt: skip
    """The search behind ``knn(..., approximate=...)``."""
    sets = Sets.open(queries, database, metric)
    sets.check_k(k, exclude_self)
    if sets.streamed:
        raise InputError(
            "database", expected="data that can be read by index", received="an iterator", do="Give shards."
        )
    index = ApproximateIndex(approximate, metric=metric) if isinstance(approximate, str) else approximate
    if index.metric != metric:
        raise InputError("metric", expected=f"{index.metric!r}, as the index was built with", received=repr(metric))
    if index.index is None:
        index.build(database, memory=memory, progress=progress)
    else:
        index.require_rows_of(sets.database)
    if sets.queries.length == 0:
        return sets.empty(k, "approximate")
    wanted = min(sets.database.length, k * index.candidates + exclude_self)
    lists = RunningTopK(sets.queries.length, k, sets.distance)
    with Progress("searching", sets.queries.length, "queries", show=progress) as bar:
        for first, block in _query_blocks(sets, memory, wanted):
            proposals = index.propose(block, wanted)
            for offset, (query, candidates) in enumerate(zip(block, proposals, strict=True)):
                row = first + offset
                lists.fallbacks += _rank(lists, row, query, _usable(candidates, row, exclude_self), sets, backend)
            bar.advance(len(block))
    recall = _measure(sets, lists, k, exclude_self, memory, backend)
    return Neighbors(lists.squared_distances, lists.indices, "approximate", metric, lists.fallbacks, recall)


def _query_blocks(sets: Sets, memory: int | None, wanted: int) -> Iterator[tuple[int, np.ndarray]]:
    step = sets.block_sizes(memory, wanted).queries
    convert = Converter(sets.queries, sets.metric)
    for first in range(0, sets.queries.length, step):
        yield first, convert(sets.queries.read(first, min(first + step, sets.queries.length)), first)


def _usable(candidates: np.ndarray, row: int, exclude_self: bool) -> np.ndarray:
    """Distinct candidates in ascending order, so that ties go to the lowest index."""
    found = np.unique(candidates[candidates != NOBODY])
    return found[found != row] if exclude_self else found


def _rank(lists: RunningTopK, row: int, query: np.ndarray, candidates: np.ndarray, sets: Sets, backend: str) -> int:
    if not len(candidates):
        return 0
    block = sets.row_converter(sets.database.take(candidates), 0)
    found = ops.nearest(query[None], block, lists.indices.shape[1], backend=backend)
    count = found.indices.shape[1]
    lists.squared_distances[row, :count] = found.squared_distances[0]
    lists.indices[row, :count] = candidates[found.indices[0]]
    return found.fallbacks


def _measure(sets: Sets, lists: RunningTopK, k: int, exclude_self: bool, memory: int | None, backend: str) -> Recall:
    """Recall on queries evenly spaced: found neighbours no farther than the exact k-th, among k per query."""
    from memfast.neighbors.search import knn

    count = min(RECALL_QUERIES, sets.queries.length)
    sample = np.unique(np.linspace(0, sets.queries.length - 1, count).astype(np.int64))
    true = knn(
        sets.queries.take(sample), sets.database, k + exclude_self, metric=sets.metric, memory=memory, backend=backend,
        distributed=False,
    )  # fmt: skip
    farthest = np.empty(len(sample), lists.squared_distances.dtype)
    for number, row in enumerate(sample):
        others = (
            true.squared_distances[number][true.indices[number] != row]
            if exclude_self
            else true.squared_distances[number]
        )
        farthest[number] = others[k - 1]
    found = (lists.squared_distances[sample] <= farthest[:, None]) & (lists.indices[sample] != NOBODY)
    hits, trials = int(found.sum()), found.size
    low, high = wilson(hits, trials, CONFIDENCE)
    return Recall(hits / trials, low, high, CONFIDENCE, k, len(sample))
