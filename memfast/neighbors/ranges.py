"""Range search: all pairs within a radius, streamed in blocks."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from memfast import ops
from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.foundation.progress import Progress
from memfast.neighbors.inputs import SHARE_OF_FREE, SearchInputs
from memfast.neighbors.precision import Converter
from memfast.neighbors.pruned import QUERIES_AT_ONCE, PrunedSearch, checked_rows, pruned_search
from memfast.neighbors.stream import read_ahead, units
from memfast.neighbors.tiles import in_halves
from memfast.runtime.memory import bytes_allowed, free_memory

# A pair costs 24 bytes, and as much again while it is sorted and collected.
_BYTES_PER_PAIR = 64
# Pairs that one kernel call compares, and of how many queries. Even where all of them lie within the radius they fit
# into some 300 MiB, and at this size the kernel spends little of its time on packing the rows.
_LARGEST_TILE = 1 << 21
_TILE_QUERIES = 1 << 11
# Rows of length one are rounded to float32: two of them move by 2**-24 each, and a pair at the limit must not be lost.
UNIT_ROW_ROUNDING = 2.0**-23


@dataclass(frozen=True)
class RangeSearchResult:
    """Pairs of a query and a database row that lie within a radius.

    Attributes:
        queries: int64 ``[n]``.
        indices: int64 ``[n]``, rows of the database.
        squared_distances: ``[n]``, int64 for uint8 data, float64 otherwise.
    """

    queries: np.ndarray
    indices: np.ndarray
    squared_distances: np.ndarray

    def __len__(self) -> int:
        return len(self.queries)

    @classmethod
    def collect(cls, blocks: Iterable["RangeSearchResult"]) -> "RangeSearchResult":
        """All pairs of several blocks, sorted by query, then distance, then index."""
        found = [(one.queries, one.indices, one.squared_distances) for one in blocks]
        if not found:
            return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))
        queries, indices, distances = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.lexsort((indices, distances, queries))
        return cls(queries[order], indices[order], distances[order])


def range_search(
    queries: Any,
    database: Any,
    radius: float | None = None,
    *,
    radius_squared: float | None = None,
    similarity: float | None = None,
    exclude_self: bool = False,
    metric: str = "euclidean",
    memory: int | None = None,
    progress: bool = False,
    backend: str = "auto",
) -> Iterator[RangeSearchResult]:
    """All pairs of a query and a database item within a radius (itself included), exact, in blocks.

    The number of pairs is not known beforehand, so they come as they are found, a bounded number at a time: for some
    queries and some rows of the database one ``RangeSearchResult``, sorted by query, distance and index.
    ``RangeSearchResult.collect`` puts all together. The search runs in this process alone, whatever
    ``torch.distributed`` has started.

    Args:
        queries: as for ``knn``.
        database: as for ``knn``.
        radius: Euclidean distance, 0 or more. Give exactly one of the three limits.
        radius_squared: its square; exact for integers.
        similarity: least cosine similarity, -1 to 1, with ``metric="cosine"``. Pairs within the rounding of the rows
            to float32 count as at the limit: no pair at the limit is lost.
        exclude_self: leave out the pairs of an item with itself.
        metric: as for ``knn``.
        memory: as for ``knn``.
        progress: as for ``knn``.
        backend: as for ``knn``.

    Raises:
        InputError: as for ``knn``; not exactly one limit; a negative radius.

    >>> queries, database = np.array([[4]], np.uint8), np.array([[1], [9], [5]], np.uint8)
    >>> pairs = RangeSearchResult.collect(range_search(queries, database, radius=3))
    >>> pairs.indices.tolist(), pairs.squared_distances.tolist()
    ([2, 0], [1, 9])
    """
    if metric == "inner_product":
        raise InputError("metric", expected="'euclidean' or 'cosine'", received=repr(metric))
    inputs = SearchInputs.open(queries, database, metric)
    inputs.check_one_set(exclude_self)
    limit = squared_limit(radius, radius_squared, similarity, metric)
    if inputs.queries.length == 0:
        return iter(())
    search = pruned_search(database) if metric == "euclidean" and backend == "auto" else None
    if search is not None:
        return _in_index(inputs, search, limit, exclude_self, progress)
    return _RangeSearch(inputs, limit, memory, backend, exclude_self=exclude_self).run(progress)


def pairs_inside(
    inputs: SearchInputs, limit: float, *, memory: int | None, progress: bool, backend: str
) -> Iterator[RangeSearchResult]:
    """All pairs i < j of one set (given as both queries and database) within a squared radius."""
    return _RangeSearch(inputs, limit, memory, backend, exclude_self=True, inside=True).run(progress)


def _in_index(
    inputs: SearchInputs, search: PrunedSearch, limit: float, exclude_self: bool, progress: bool
) -> Iterator[RangeSearchResult]:
    """The same pairs from an index, which its sketches make cheaper."""
    limit = math.floor(limit) if inputs.integers else limit
    convert = Converter(inputs.queries, inputs.metric)
    count = inputs.queries.length
    with Progress("searching", count, "queries", show=progress) as bar:
        for first in range(0, count, QUERIES_AT_ONCE):
            last = min(first + QUERIES_AT_ONCE, count)
            queries = checked_rows(convert(inputs.queries.read(first, last), first), inputs.queries.locate, first)
            for query, item, squared in search.within(queries, limit):
                others = query + first != item if exclude_self else slice(None)
                found = RangeSearchResult(query[others] + first, item[others], squared[others])
                if len(found):
                    yield found
            bar.advance(last - first)


def squared_limit(radius: float | None, radius_squared: float | None, similarity: float | None, metric: str) -> float:
    """The squared radius that exactly one of the three limits means.

    Raises:
        InputError: none or several were given, a radius is negative or not finite, or a similarity comes without
            ``metric="cosine"``.
    """
    given = {"radius": radius, "radius_squared": radius_squared, "similarity": similarity}
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) != 1:
        raise InputError(
            "radius",
            expected="exactly one of radius, radius_squared and similarity",
            received=" and ".join(named) or "none",
        )
    ((name, value),) = named.items()
    if name == "similarity":
        if metric != "cosine":
            raise InputError(name, expected="-1 to 1 with metric='cosine'", received=f"{value} with metric={metric!r}")
        distance = math.sqrt(2.0 - 2.0 * finite_number(name, value, least=-1, greatest=1))
        return (distance + UNIT_ROW_ROUNDING) ** 2
    number = finite_number(name, value, least=0)
    squared = number * number if name == "radius" else number
    if not math.isfinite(squared):
        raise InputError(name, expected="a number whose square is finite", received=str(value))
    return squared


class _RangeSearch:
    """One range search: its sets, its limit, the sizes of its tiles.

    Args:
        inputs: the two sets.
        limit: the squared radius.
        memory: bytes, or None for a quarter of what is free.
        backend: of the kernel.
        exclude_self: leave out the pairs of an item with itself.
        inside: both sets are one, and of each two pairs only the one whose query comes first is wanted.
    """

    def __init__(
        self, inputs: SearchInputs, limit: float, memory: int | None, backend: str, *, exclude_self: bool,
        inside: bool = False,
    ) -> None:  # fmt: skip
        self.inputs, self.backend, self.exclude_self, self.inside = inputs, backend, exclude_self, inside
        self.radius_squared = math.floor(limit) if inputs.integers else float(limit)
        self.sizes = inputs.block_sizes(memory, 1)
        budget = free_memory() // SHARE_OF_FREE if memory is None else bytes_allowed(memory)
        self.tile_pairs = min(_LARGEST_TILE, max(1, budget // _BYTES_PER_PAIR))

    def run(self, progress: bool) -> Iterator[RangeSearchResult]:
        inputs, step = self.inputs, self.sizes.queries
        convert_query, convert_row = inputs.query_converter, inputs.row_converter
        count, length = inputs.queries.length, inputs.database.length
        total = None if inputs.streamed else sum(length - first * self.inside for first in range(0, count, step))
        with Progress("searching", total, "rows", show=progress) as bar:
            for first in range(0, count, step):
                queries = convert_query(inputs.queries.read(first, min(first + step, count)), first)
                offset = first if self.inside else 0
                for raw in read_ahead(units(inputs.database, offset, length, self.sizes.rows)):
                    block = convert_row(raw, offset)
                    with inputs.naming_rows(queries, first, block, offset):
                        for pairs in self._tiles(queries, block, first, offset):
                            kept = self._filter(pairs)
                            if len(kept):
                                yield kept
                    bar.advance(len(raw))
                    offset += len(raw)
        if inputs.streamed:
            inputs.check_one_set(self.exclude_self)

    def _tiles(self, queries: np.ndarray, block: np.ndarray, first: int, offset: int) -> Iterator[RangeSearchResult]:
        """Pairs of one block, tile by tile; a tile is so small that even all of its pairs fit the memory."""
        step = max(1, min(len(queries), _TILE_QUERIES, self.tile_pairs))
        rows = max(1, self.tile_pairs // step)
        for q0 in range(0, len(queries), step):
            for r0 in range(0, len(block), rows):
                if self.inside and first + q0 >= offset + r0 + rows:
                    continue
                found: list[RangeSearchResult] = []

                def tile(q0: int, q1: int, r0: int, r1: int, found: list[RangeSearchResult] = found) -> None:
                    query, index, distance = ops.range_search(
                        queries[q0:q1], block[r0:r1], self.radius_squared, backend=self.backend
                    )
                    found.append(RangeSearchResult(query + (first + q0), index + (offset + r0), distance))

                in_halves(tile, q0, min(q0 + step, len(queries)), r0, min(r0 + rows, len(block)))
                yield from found if len(found) == 1 else [RangeSearchResult.collect(found)]

    def _filter(self, pairs: RangeSearchResult) -> RangeSearchResult:
        if not self.exclude_self:
            return pairs
        keep = pairs.indices > pairs.queries if self.inside else pairs.indices != pairs.queries
        return RangeSearchResult(pairs.queries[keep], pairs.indices[keep], pairs.squared_distances[keep])
