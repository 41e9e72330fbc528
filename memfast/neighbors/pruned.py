"""Exact search of a kept index: sketches exclude what cannot be among the nearest, the rest is computed from its rows.

Each query first measures the items whose sketches are nearest. The k-th of them bounds its k-th distance, and so
says how far apart sketches of its true neighbours can be at most. Every item within that is measured exactly; no other
item can belong to the result. A part of the data in which too many items would be measured is searched by brute force.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from memfast import ops
from memfast.data import open_source
from memfast.data.kept import OPEN_SHARDS, StoredItems
from memfast.data.kept import matches as is_index_folder
from memfast.data.source import Source
from memfast.data.subset import Subset
from memfast.foundation.errors import CheckpointError, InputError, first_line
from memfast.foundation.progress import Progress
from memfast.neighbors.precision import NATIVE, Converter
from memfast.neighbors.rows import open_rows
from memfast.neighbors.sketch import Sketch, Transform
from memfast.neighbors.tiles import search_block
from memfast.neighbors.topk import NOBODY, RunningTopK, fill_value
from memfast.ops.rows import MAX_MAGNITUDE

SKETCH, SLACK, TRANSFORM = "sketch.npy", "slack.npy", "transform.safetensors"
# Measuring a pair by itself costs about ten times what the search over tiles takes for it.
MOST_SURVIVORS = 0.1
QUERIES_AT_ONCE = 2048
FEW_QUERIES = 8
PAIRS_AT_ONCE = 1 << 22
_PROBES = 16
# How many items with the nearest sketches are measured first, for k neighbours: more give a lower bound to begin with.
SEEDS = 2
_FEW_SEEDS = 8
_MOST_SPARE = 64


@dataclass
class Work:
    """What a search did.

    Attributes:
        pairs: pairs of a query and an item that had to be decided.
        measured: of these, those that the sketches left and that were computed from their rows.
        by_brute_force: pairs in parts of the data that were searched without sketches.
    """

    pairs: int = 0
    measured: int = 0
    by_brute_force: int = 0

    @property
    def survivors(self) -> float:
        """The share of the pairs decided by sketches that had to be measured; 0 where there were none."""
        decided = self.pairs - self.by_brute_force
        return self.measured / decided if decided else 0.0


def pruned_search(data: Any) -> "PrunedSearch | None":
    """A search of the index that ``data`` is, is a part of, or whose folder it names; None for everything else."""
    if isinstance(data, StoredItems):
        return PrunedSearch(data)
    if isinstance(data, Subset) and isinstance(data.source, StoredItems):
        return PrunedSearch(data.source, data.kept)
    if isinstance(data, str | Path) and is_index_folder(Path(data)):
        return PrunedSearch(StoredItems(data, reopen=open_source))
    return None


@dataclass
class PrunedSearch:
    """Searches of one index, or of some of its items.

    Args:
        items: the index's items.
        kept: int64 indices, ascending, of the items to search; results count these. None searches all.
    """

    items: StoredItems
    kept: np.ndarray | None = None
    work: Work = field(default_factory=Work)

    def __post_init__(self) -> None:
        self._place: np.ndarray | None = None
        if self.kept is not None:
            self._place = np.full(len(self.items), NOBODY, np.int64)
            self._place[self.kept] = np.arange(len(self.kept))
        notes = self.items.manifest.get("sketch")
        self.transform = None if notes is None else _read_transform(self.items, notes)
        self._sketches = lru_cache(maxsize=OPEN_SHARDS)(self._open_sketch)
        self._blocks = lru_cache(maxsize=2)(self._read_block)

    @property
    def source(self) -> Source:
        """What is searched, as a source."""
        return self.items if self.kept is None else Subset(self.items, self.kept)

    def nearest(self, queries: Any, k: int, *, exclude_self: bool = False, progress: bool = False) -> RunningTopK:
        """The k nearest items of every query, as ``memfast.knn`` finds them.

        Args:
            queries: what ``open_rows`` reads, checked against the index by the caller.
            k: 1 to the number of items.
            exclude_self: leave item i out for query i.
            progress: show progress on stderr.

        Raises:
            InputError: NaN or infinity among the queries (the row is named).
        """
        rows = open_rows(queries, "queries", empty=True)
        convert = Converter(rows, "euclidean")
        integers = convert.compute == np.uint8 and self.items.dtype == np.uint8
        found = RunningTopK(rows.length, k, np.dtype(np.int64 if integers else np.float64))
        with Progress("searching", rows.length, "queries", show=progress) as bar:
            for first in range(0, rows.length, QUERIES_AT_ONCE):
                last = min(first + QUERIES_AT_ONCE, rows.length)
                block = checked_rows(convert(rows.read(first, last), first), rows.locate, first)
                own = np.arange(first, last) if exclude_self else None
                lists = RunningTopK(last - first, k, found.squared_distances.dtype)
                self._search(lists, block, own)
                found.squared_distances[first:last], found.indices[first:last] = lists.squared_distances, lists.indices
                bar.advance(last - first)
        return found

    def within(
        self, queries: np.ndarray, limit: float, *, from_item: int = 0
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(query, item, squared distance) of all pairs up to a squared distance, a bounded number at a time.

        Args:
            queries: ``[Q, D]``, converted.
            limit: the squared radius.
            from_item: leave out the items of the index before this one.
        """
        sketch = None if self.transform is None else self.transform.sketch(queries)
        bound = np.full(len(queries), limit)
        for number in range(len(self.items.shards)):
            offset, count = int(self.items.starts[number]), int(self.items.shards[number]["items"])
            if offset + count <= from_item:
                continue
            for first, last in _ranges(count, len(queries)):
                if offset + last <= from_item:
                    continue
                self.work.pairs += len(queries) * (last - first)
                if sketch is None:
                    self.work.by_brute_force += len(queries) * (last - first)
                    query, row, squared = ops.range_search(queries, self._rows(number, first, last), limit)
                else:
                    query, row = self._survivors(number, first, last, sketch, bound)
                    squared = self._measure(number, first, queries, query, row)
                place = self._places(row + (offset + first))
                near = (squared <= limit) & (place != NOBODY)
                query, place, squared = query[near], place[near], squared[near]
                order = np.lexsort((place, squared, query))
                if len(order):
                    yield query[order], place[order], squared[order]

    def _search(self, lists: RunningTopK, queries: np.ndarray, own: np.ndarray | None) -> None:
        sketch = None if self.transform is None else self.transform.sketch(queries)
        if sketch is None or not np.isfinite(sketch.slack).all() or not self._pays(queries, sketch, lists, own):
            for number in range(len(self.items.shards)):
                self._brute_force(lists, number, queries, own)
            return
        bound = self._first_bound(lists, queries, sketch, own, range(len(self.items.shards)))
        for number in range(len(self.items.shards)):
            limit = np.minimum(bound, lists.squared_distances[:, -1])
            if len(queries) > FEW_QUERIES and self._share(number, sketch, limit) > MOST_SURVIVORS:
                self._brute_force(lists, number, queries, own)
            else:
                self._shard(lists, number, queries, sketch, bound, own)

    def _pays(self, queries: np.ndarray, sketch: Sketch, lists: RunningTopK, own: np.ndarray | None) -> bool:
        """Whether sketches exclude enough, judged by some queries in the first shard; few queries need no judgement."""
        if len(queries) <= FEW_QUERIES:
            return True
        some = np.linspace(0, len(queries) - 1, _PROBES).astype(np.int64)
        probe = Sketch(sketch.bytes[some], sketch.slack[some])
        few = RunningTopK(_PROBES, lists.indices.shape[1], lists.squared_distances.dtype)
        bound = self._first_bound(few, queries[some], probe, None if own is None else own[some], range(1))
        return self._share(0, probe, bound) <= MOST_SURVIVORS

    def _share(self, number: int, sketch: Sketch, bound: np.ndarray) -> float:
        """The share of a shard's items that some queries would have to measure."""
        some = np.unique(np.linspace(0, len(bound) - 1, _PROBES).astype(np.int64))
        count = min(int(self.items.shards[number]["items"]), PAIRS_AT_ONCE // len(some))
        probe = Sketch(sketch.bytes[some], sketch.slack[some])
        return len(self._survivors(number, 0, count, probe, bound[some])[0]) / (count * len(some))

    def _first_bound(
        self, lists: RunningTopK, queries: np.ndarray, sketch: Sketch, own: np.ndarray | None, shards: range
    ) -> np.ndarray:
        """An upper bound of each query's k-th distance: that among the items with the nearest sketches."""
        k, dtype = lists.indices.shape[1], lists.squared_distances.dtype
        left_out = len(self.items) - (len(self.items) if self.kept is None else len(self.kept))
        spare = min(left_out, _MOST_SPARE) + (own is not None)
        wanted = min(len(self.items), max(SEEDS * k, k + _FEW_SEEDS) + spare)
        nearest = RunningTopK(len(queries), wanted, np.dtype(np.int64))
        for number in shards:
            stored, offset = self._sketches(number).bytes, int(self.items.starts[number])
            if len(queries) <= FEW_QUERIES:
                apart = ops.pair_distances(sketch.bytes, stored)
                kept = min(wanted, len(stored))
                row = np.argpartition(apart, kept - 1, axis=1)[:, :kept]
                order = np.lexsort((row, np.take_along_axis(apart, row, 1)), axis=1)
                row = np.take_along_axis(row, order, 1)
                nearest.merge(0, np.take_along_axis(apart, row, 1), row + offset)
            else:
                found = ops.nearest(sketch.bytes, stored, wanted, bound=nearest.bound(0, len(queries)))
                indices = np.where(found.indices == NOBODY, NOBODY, found.indices + offset)
                nearest.merge(0, found.squared_distances, indices)
        bound = np.full((len(queries), wanted), fill_value(dtype), dtype)
        for number in shards:
            offset, count = int(self.items.starts[number]), int(self.items.shards[number]["items"])
            here = (nearest.indices >= offset) & (nearest.indices < offset + count)
            query, place = np.nonzero(here)
            row = nearest.indices[query, place] - offset
            bound[query, place] = self._measure(number, 0, queries, query, row)
        place = np.where(nearest.indices == NOBODY, NOBODY, self._places(nearest.indices))
        bound[place == NOBODY] = fill_value(dtype)
        if own is not None:
            bound[place == own[:, None]] = fill_value(dtype)
        bound.sort(axis=1)
        return bound[:, k - 1]

    def _shard(
        self, lists: RunningTopK, number: int, queries: np.ndarray, sketch: Sketch, bound: np.ndarray,
        own: np.ndarray | None,
    ) -> None:  # fmt: skip
        """Measure a shard's items that the sketches leave, and merge them."""
        offset, count = int(self.items.starts[number]), int(self.items.shards[number]["items"])
        for first, last in _ranges(count, len(queries)):
            self.work.pairs += len(queries) * (last - first)
            limit = np.minimum(bound, lists.squared_distances[:, -1])
            query, row = self._survivors(number, first, last, sketch, limit)
            place = self._places(row + (offset + first))
            wanted = (place != NOBODY) & (own is None or place != own[query])
            query, row, place = query[wanted], row[wanted], place[wanted]
            squared = self._measure(number, first, queries, query, row)
            near = squared <= limit[query]
            _merge(lists, query[near], place[near], squared[near])

    def _survivors(
        self, number: int, first: int, last: int, sketch: Sketch, bound: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(query, row after ``first``) of a shard's items ``first`` to ``last`` that the bound does not exclude."""
        assert self.transform is not None
        stored = self._sketches(number)
        block, slack = stored.bytes[first:last], stored.slack[first:last]
        # Few items have much slack (they lie outside the grid): they are always measured, so that all others need
        # little.
        finite = slack[np.isfinite(slack)]
        usual = float(np.quantile(finite, 0.99)) * 1.5 if len(finite) else 0.0
        wild = np.flatnonzero(~(slack <= usual))
        limit = self.transform.limits(bound, sketch.slack.astype(np.float64) + usual)
        if len(sketch.bytes) <= FEW_QUERIES:
            apart = ops.pair_distances(sketch.bytes, block)
            query, row = np.nonzero(apart <= limit[:, None])
            squared = apart[query, row]
        else:
            query, row, squared = ops.candidates(sketch.bytes, block, limit)
        both = sketch.slack[query].astype(np.float64) + slack[row]
        kept = squared <= self.transform.limits(bound[query], both)
        if len(wild):
            kept &= ~np.isin(row, wild)
            query = np.concatenate([query[kept], np.repeat(np.arange(len(bound)), len(wild))])
            row = np.concatenate([row[kept], np.tile(wild, len(bound))])
            order = np.argsort(query, kind="stable")
            return query[order], row[order]
        return query[kept], row[kept]

    def _measure(self, number: int, first: int, queries: np.ndarray, query: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Exact squared distances of pairs, whose queries ascend, with rows after ``first`` of a shard."""
        self.work.measured += len(query)
        starts = np.searchsorted(query, np.arange(len(queries) + 1))
        rows = self.items.shard_rows(number)
        if rows is not None and rows.dtype in NATIVE:
            return ops.pair_distances(queries, rows[first:], starts, row)
        wanted, place = np.unique(row, return_inverse=True)
        taken = self.items.take(wanted + (int(self.items.starts[number]) + first))
        return ops.pair_distances(queries, _converted(taken.reshape(len(wanted), -1)), starts, place.reshape(-1))

    def _brute_force(self, lists: RunningTopK, number: int, queries: np.ndarray, own: np.ndarray | None) -> None:
        offset, count = int(self.items.starts[number]), int(self.items.shards[number]["items"])
        step = max(1, (64 << 20) // max(1, queries.shape[1] * self.items.dtype.itemsize))
        for first in range(0, count, step):
            block = self._rows(number, first, min(first + step, count))
            self.work.pairs += len(queries) * len(block)
            self.work.by_brute_force += len(queries) * len(block)
            begin = offset + first
            if self.kept is not None:
                places = self._places(np.arange(begin, begin + len(block)))
                block = block[places != NOBODY]
                if not len(block):
                    continue
                begin = int(places[places != NOBODY][0])
            mine = None if own is None else int(own[0])
            for found in search_block(lists, queries, block, begin, own=mine, backend="auto"):
                lists.merge(found.first, found.squared_distances, found.indices)

    def _places(self, items: np.ndarray) -> np.ndarray:
        """Numbers of items among those that are searched; -1 for the others."""
        return items if self._place is None else self._place[items]

    def _rows(self, number: int, first: int, last: int) -> np.ndarray:
        return self._blocks(number, first, last)

    def _read_block(self, number: int, first: int, last: int) -> np.ndarray:
        offset = int(self.items.starts[number])
        return _converted(self.items.block(offset + first, offset + last).reshape(last - first, -1))

    def _open_sketch(self, number: int) -> Sketch:
        shard = self.items.shards[number]
        folder = self.items.folder / shard["name"]
        assert self.transform is not None
        try:
            found = Sketch(
                np.load(folder / SKETCH, mmap_mode="r", allow_pickle=False),
                np.load(folder / SLACK, allow_pickle=False),
            )
            shape = (shard["items"], len(self.transform.components) + 1)
            if found.bytes.shape != shape or found.bytes.dtype != np.uint8 or found.slack.shape != shape[:1]:
                raise ValueError("it does not fit the index")
            return found
        except (OSError, ValueError, EOFError) as error:
            raise CheckpointError(
                f"{folder}: a damaged sketch ({first_line(error)}). Build the index again."
            ) from error


def checked_rows(block: np.ndarray, locate: Any, first: int) -> np.ndarray:
    """Rows whose magnitudes the distances can hold; the block itself.

    Raises:
        InputError: a number is larger; its row is named.
    """
    if block.dtype == np.float64 and block.size and not np.abs(block).max() <= MAX_MAGNITUDE:
        row = int(np.flatnonzero(~(np.abs(block).max(axis=1) <= MAX_MAGNITUDE))[0])
        raise InputError(
            locate(first + row), expected=f"magnitudes up to {MAX_MAGNITUDE:g}", received="a larger one",
            do="Scale the data.",
        )  # fmt: skip
    return block


def _merge(lists: RunningTopK, query: np.ndarray, index: np.ndarray, squared: np.ndarray) -> None:
    """Merge pairs, whose items come after all earlier ones, into the lists."""
    if not len(query):
        return
    k = lists.indices.shape[1]
    order = np.lexsort((index, squared, query))
    query, index, squared = query[order], index[order], squared[order]
    place = np.arange(len(query)) - np.searchsorted(query, query)
    kept = place < k
    width = min(k, int(place.max()) + 1)
    distances = np.full((len(lists.indices), width), fill_value(squared.dtype), squared.dtype)
    indices = np.full((len(lists.indices), width), NOBODY, np.int64)
    distances[query[kept], place[kept]] = squared[kept]
    indices[query[kept], place[kept]] = index[kept]
    lists.merge(0, distances, indices)


def _ranges(count: int, queries: int) -> Iterator[tuple[int, int]]:
    """Ranges of items so small that all pairs with the queries fit the memory."""
    step = max(1, PAIRS_AT_ONCE // max(1, queries))
    for first in range(0, count, step):
        yield first, min(first + step, count)


def _converted(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows if rows.dtype in NATIVE else rows.astype(np.float64))


def _read_transform(items: StoredItems, notes: dict[str, Any]) -> Transform:
    path = items.folder / TRANSFORM
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != notes["sha256"]:
            raise ValueError("its content is not what the manifest says")
        return Transform.from_arrays(load(content))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{path}: damaged ({first_line(error)}). Build the index again.") from error
