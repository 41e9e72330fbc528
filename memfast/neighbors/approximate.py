"""Approximate search on request: a faiss index proposes, the exact engine re-ranks, and the recall is measured.

The only place of faiss.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from memfast import ops
from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import CheckpointError, InputError
from memfast.foundation.packages import optional_package
from memfast.foundation.progress import Progress
from memfast.foundation.proportions import wilson
from memfast.neighbors.exact import ExactSearch
from memfast.neighbors.inputs import SearchInputs, block_sizes
from memfast.neighbors.precision import Converter
from memfast.neighbors.result import Neighbors, Recall
from memfast.neighbors.rows import RowReader, open_rows
from memfast.neighbors.stream import read_ahead, units
from memfast.neighbors.topk import NOBODY, RunningTopK
from memfast.runtime.distributed import Ranks
from memfast.runtime.files import atomic_path, read_json, write_json

RECALL_QUERIES = 100
CONFIDENCE = 0.95
TRAINING_ROWS = 100_000
CANDIDATES_PER_NEIGHBOR = 4
_FORMAT = 1
_HASHED_NUMBERS = 1 << 20


def approximate_knn(
    queries: Any, database: Any, k: int, approximate: str | ApproximateIndex, *, exclude_self: bool, metric: str,
    memory: int | None, progress: bool, backend: str,
) -> Neighbors:  # fmt: skip
    """The search behind ``knn(..., approximate=...)``."""
    inputs = SearchInputs.open(queries, database, metric)
    inputs.check_k(k, exclude_self)
    if inputs.streamed:
        raise InputError(
            "database", expected="data that can be read by index", received="an iterator", do="Give shards."
        )
    index = ApproximateIndex(approximate, metric=metric) if isinstance(approximate, str) else approximate
    if index.metric != metric:
        raise InputError("metric", expected=f"{index.metric!r}, as the index was built with", received=repr(metric))
    if index.index is None:
        index.build(database, memory=memory, progress=progress)
    else:
        index.require_rows_of(inputs.database)
    if inputs.queries.length == 0:
        return inputs.empty(k, "approximate")
    wanted = min(inputs.database.length, k * index.candidates + exclude_self)
    lists = RunningTopK(inputs.queries.length, k, inputs.distance)
    with Progress("searching", inputs.queries.length, "queries", show=progress) as bar:
        for first, block in _query_blocks(inputs, memory, wanted):
            proposals = index.propose(block, wanted)
            for offset, (query, candidates) in enumerate(zip(block, proposals, strict=True)):
                row = first + offset
                lists.fallbacks += _rank(lists, row, query, _usable(candidates, row, exclude_self), inputs, backend)
            bar.advance(len(block))
    recall = _measure(inputs, lists, k, exclude_self, memory, backend)
    return Neighbors(lists.squared_distances, lists.indices, "approximate", metric, lists.fallbacks, recall)


def _query_blocks(inputs: SearchInputs, memory: int | None, wanted: int) -> Iterator[tuple[int, np.ndarray]]:
    step = inputs.block_sizes(memory, wanted).queries
    convert = Converter(inputs.queries, inputs.metric)
    for first in range(0, inputs.queries.length, step):
        yield first, convert(inputs.queries.read(first, min(first + step, inputs.queries.length)), first)


def _usable(candidates: np.ndarray, row: int, exclude_self: bool) -> np.ndarray:
    """Distinct candidates in ascending order, so that ties go to the lowest index."""
    found = np.unique(candidates[candidates != NOBODY])
    return found[found != row] if exclude_self else found


def _rank(
    lists: RunningTopK, row: int, query: np.ndarray, candidates: np.ndarray, inputs: SearchInputs, backend: str
) -> int:
    if not len(candidates):
        return 0
    block = inputs.row_converter(inputs.database.take(candidates), 0)
    found = ops.nearest(query[None], block, lists.indices.shape[1], backend=backend)
    count = found.indices.shape[1]
    lists.squared_distances[row, :count] = found.squared_distances[0]
    lists.indices[row, :count] = candidates[found.indices[0]]
    return found.fallbacks


def _measure(
    inputs: SearchInputs, lists: RunningTopK, k: int, exclude_self: bool, memory: int | None, backend: str
) -> Recall:
    """Recall on queries evenly spaced: found neighbours no farther than the exact k-th, among k per query."""
    count = min(RECALL_QUERIES, inputs.queries.length)
    sample = np.unique(np.linspace(0, inputs.queries.length - 1, count).astype(np.int64))
    sampled = SearchInputs.open(inputs.queries.take(sample), inputs.database, inputs.metric)
    true = ExactSearch(sampled, k + exclude_self, memory=memory, backend=backend).run(Ranks())
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
        whole_number("training_rows", training_rows, least=1)
        whole_number("candidates", candidates, least=1)
        if probes is not None:
            whole_number("probes", probes, least=1)
        self.factory, self.metric, self.training_rows = factory, metric, training_rows
        self.candidates, self.probes = candidates, probes
        self.index: Any = None
        self.content: str | None = None
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
        with self._refusing("a faiss index_factory string, for example 'IVF1024,Flat'"):
            index = faiss.index_factory(rows.width, self.factory, faiss.METRIC_L2)
        index = self._to_gpu(index)
        if not index.is_trained:
            sample = np.unique(np.linspace(0, rows.length - 1, min(rows.length, self.training_rows)).astype(np.int64))
            with self._refusing(f"an index that {len(sample)} rows can train"):
                index.train(_float32(convert(rows.take(sample), 0)))
        step = block_sizes(
            memory, queries=1, rows=rows.length, width=rows.width, k=1, query_item=4, row_item=rows.dtype.itemsize + 4
        ).rows
        digest = hashlib.sha256()
        with Progress("indexing", rows.length, "rows", show=progress) as bar:
            start = 0
            for block in read_ahead(units(rows, 0, rows.length, step)):
                numbers = _float32(convert(block, start))
                digest.update(numbers.data)
                with self._refusing("an index that numbers its rows itself (leave out 'IDMap')"):
                    index.add(numbers)
                start += len(block)
                bar.advance(len(block))
        self.index, self.content = index, digest.hexdigest()
        return self

    def require_rows_of(self, rows: RowReader) -> None:
        """Raise unless the index holds these very rows, by their number and their content.

        Raises:
            InputError: it was built for others. An index that an earlier version saved holds no hash of its rows:
                only their number and width are compared then.
        """
        if (self.length, int(self.index.d)) != (rows.length, rows.width):
            raise InputError(
                "approximate", expected=f"an index of {rows.length} rows of {rows.width} numbers",
                received=f"one of {self.length} rows of {int(self.index.d)}", do="Build it for this database.",
            )  # fmt: skip
        if self.content is not None and self.content != self._hash(rows):
            raise InputError(
                "approximate", expected="an index of this database", received="one of other rows, equally many",
                do="Build it for this database.",
            )  # fmt: skip

    def _hash(self, rows: RowReader) -> str:
        """SHA-256 of the float32 numbers that faiss is given, whatever the blocks."""
        convert, digest = Converter(rows, self.metric), hashlib.sha256()
        step = max(1, _HASHED_NUMBERS // rows.width)
        for start in range(0, rows.length, step):
            digest.update(_float32(convert(rows.read(start, min(start + step, rows.length)), start)).data)
        return digest.hexdigest()

    @contextmanager
    def _refusing(self, expected: str) -> Iterator[None]:
        """What faiss refuses is an error of the description, in our words and its own."""
        try:
            yield
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                "approximate", expected=expected, received=repr(self.factory), do=f"faiss says: {_last_line(error)}"
            ) from error

    def propose(self, queries: np.ndarray, count: int) -> np.ndarray:
        """``count`` candidates of each query (converted rows), int64 ``[Q, count]``, -1 where the index found fewer."""
        if self.probes is not None:
            faiss = _faiss()
            space = faiss.ParameterSpace() if self._resources is None else faiss.GpuParameterSpace()
            try:
                space.set_index_parameter(self.index, "nprobe", self.probes)
            except RuntimeError as error:
                raise InputError(
                    "probes", expected=f"None: {self.factory} has no lists to visit", received=str(self.probes),
                ) from error  # fmt: skip
        with self._refusing("an index that can be searched"):
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
            "training_rows": self.training_rows, "bytes": Path(path).stat().st_size, "content": self.content,
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
            loaded.index, loaded.content = _faiss().read_index(str(path)), notes.get("content")
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


def _faiss() -> Any:
    return optional_package("faiss", package="faiss-cpu", purpose="approximate search", extra="audit")


def _float32(block: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(block, np.float32)


def _notes_path(path: str | os.PathLike[str]) -> Path:
    return Path(f"{os.fspath(path)}.json")


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
