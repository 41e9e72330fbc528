"""Approximate search on request: a faiss index proposes, the exact engine re-ranks, and the recall is measured."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from memfast import ops
from memfast.foundation.errors import CheckpointError, InputError, MissingPackageError
from memfast.foundation.files import atomic_path, read_json, write_json
from memfast.foundation.progress import Progress
from memfast.neighbors.memory import block_sizes
from memfast.neighbors.precision import Converter
from memfast.neighbors.reading import read_ahead
from memfast.neighbors.result import Neighbors, Recall
from memfast.neighbors.rows import open_rows
from memfast.neighbors.sets import Sets
from memfast.neighbors.stream import units
from memfast.neighbors.topk import NOBODY, RunningTopK

TRAINING_ROWS = 100_000
CANDIDATES_PER_NEIGHBOR = 4
RECALL_QUERIES = 100
CONFIDENCE = 0.95
_FORMAT = 1
# Two-sided normal quantile of CONFIDENCE.
_QUANTILE = 1.959963984540054


class ApproximateIndex:
    """A faiss index over a database, built from a description such as ``"IVF1024,Flat"`` or ``"HNSW32"``.

    Args:
        factory: faiss' ``index_factory`` string.
        metric: ``"euclidean"`` or ``"cosine"`` (rows scaled to length one).
        training_rows: rows, evenly spaced, on which the index is trained.
        candidates: candidates asked for per wanted neighbour, re-ranked exactly.
        probes: lists that an IVF index visits per query; None leaves faiss' default.

    Raises:
        MissingPackageError: faiss is not installed.
    """

    def __init__(
        self,
        factory: str,
        *,
        metric: str = "euclidean",
        training_rows: int = TRAINING_ROWS,
        candidates: int = CANDIDATES_PER_NEIGHBOR,
        probes: int | None = None,
    ) -> None:
        if candidates < 1:
            raise InputError("candidates", expected="at least 1 per neighbour", received=str(candidates))
        self.factory, self.metric, self.training_rows = factory, metric, training_rows
        self.candidates, self.probes = candidates, probes
        self.index: Any = None
        self._resources: Any = None
        _faiss()

    @property
    def length(self) -> int:
        """Number of database rows in the index."""
        return 0 if self.index is None else int(self.index.ntotal)

    def build(self, database: Any, *, memory: int | None = None, progress: bool = False) -> ApproximateIndex:
        """Train on a sample and add the database block by block; returns itself.

        Raises:
            InputError: faiss does not know the description, or the database cannot be read by index.
        """
        rows = open_rows(database, "database")
        convert = Converter(rows, self.metric)
        faiss = _faiss()
        try:
            index = faiss.index_factory(rows.width, self.factory, faiss.METRIC_L2)
        except RuntimeError as error:
            raise InputError(
                "approximate", expected="a faiss index_factory string, for example 'IVF1024,Flat'",
                received=repr(self.factory), do=f"faiss says: {_last_line(error)}",
            ) from error  # fmt: skip
        index = self._to_gpu(index)
        if not index.is_trained:
            sample = np.unique(np.linspace(0, rows.length - 1, min(rows.length, self.training_rows)).astype(np.int64))
            try:
                index.train(_float32(convert(rows.take(sample), 0)))
            except RuntimeError as error:
                raise InputError(
                    "approximate", expected=f"an index that {len(sample)} rows can train", received=repr(self.factory),
                    do=f"faiss says: {_last_line(error)}",
                ) from error  # fmt: skip
        step = block_sizes(
            memory, queries=1, rows=rows.length, width=rows.width, k=1, query_item=4, row_item=rows.dtype.itemsize + 4
        ).rows
        with Progress("indexing", rows.length, "rows", show=progress) as bar:
            start = 0
            for block in read_ahead(units(rows, 0, rows.length, step)):
                index.add(_float32(convert(block, start)))
                start += len(block)
                bar.advance(len(block))
        self.index = index
        return self

    def propose(self, queries: np.ndarray, count: int) -> np.ndarray:
        """``count`` candidates of each query (converted rows), int64 ``[Q, count]``, -1 where the index found fewer."""
        if self.probes is not None:
            faiss = _faiss()
            space = faiss.ParameterSpace() if self._resources is None else faiss.GpuParameterSpace()
            space.set_index_parameter(self.index, "nprobe", self.probes)
        return self.index.search(_float32(queries), count)[1].astype(np.int64, copy=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index, and beside it a JSON file with its description.

        Raises:
            InputError: nothing was built yet.
        """
        if self.index is None:
            raise InputError("index", expected="a built index", received="an empty one", do="Call build first.")
        with atomic_path(path) as temporary:
            _faiss().write_index(self._on_cpu(), str(temporary))
        notes = {
            "format": _FORMAT, "factory": self.factory, "metric": self.metric, "rows": self.length,
            "numbers per row": int(self.index.d), "candidates": self.candidates, "probes": self.probes,
            "training_rows": self.training_rows, "bytes": Path(path).stat().st_size,
        }  # fmt: skip
        write_json(_notes_path(path), notes)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ApproximateIndex:
        """Read an index that ``save`` wrote. An index file is read by faiss itself: load only files you trust.

        Raises:
            CheckpointError: a file is missing, damaged, or the two do not belong together.
        """
        try:
            notes = read_json(_notes_path(path))
            if Path(path).stat().st_size != notes["bytes"]:
                raise ValueError(f"expected {notes['bytes']} bytes")
            loaded = cls(
                notes["factory"], metric=notes["metric"], training_rows=notes["training_rows"],
                candidates=notes["candidates"], probes=notes["probes"],
            )  # fmt: skip
            loaded.index = _faiss().read_index(str(path))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"{path}: not an index with its description beside it ({_last_line(error)})"
            ) from error
        if (loaded.index.ntotal, loaded.index.d) != (notes["rows"], notes["numbers per row"]):
            raise CheckpointError(f"{path}: the index and {_notes_path(path).name} do not belong together")
        loaded.index = loaded._to_gpu(loaded.index)
        return loaded

    def _to_gpu(self, index: Any) -> Any:
        faiss = _faiss()
        if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
            return index
        try:
            self._resources = faiss.StandardGpuResources()
            return faiss.index_cpu_to_gpu(self._resources, 0, index)
        except RuntimeError:
            # faiss has GPU code for some kinds only (not for HNSW): the others stay where they are.
            return index

    def _on_cpu(self) -> Any:
        return _faiss().index_gpu_to_cpu(self.index) if self._resources is not None else self.index


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
    if (index.length, int(index.index.d)) != (sets.database.length, sets.database.width):
        raise InputError(
            "approximate", expected=f"an index of {sets.database.length} rows of {sets.database.width} numbers",
            received=f"one of {index.length} rows of {int(index.index.d)}", do="Build it for this database.",
        )  # fmt: skip
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


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The Wilson interval of a proportion at ``CONFIDENCE`` (Wilson 1927)."""
    share, z2 = successes / trials, _QUANTILE**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _QUANTILE / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def _query_blocks(sets: Sets, memory: int | None, wanted: int) -> Iterator[tuple[int, np.ndarray]]:
    step = sets.block_sizes(memory, wanted).queries
    convert = sets.query_converter
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
    low, high = wilson(hits, trials)
    return Recall(hits / trials, low, high, CONFIDENCE, k, len(sample))


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MissingPackageError("faiss-cpu", purpose="approximate search", extra="audit") from error
    return faiss


def _float32(block: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(block, np.float32)


def _notes_path(path: str | os.PathLike[str]) -> Path:
    return Path(f"{os.fspath(path)}.json")


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
