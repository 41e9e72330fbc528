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
from memfast.neighbors.memory import SHARE_OF_FREE, BlockSizes
from memfast.neighbors.reading import read_ahead
from memfast.neighbors.sets import Sets
from memfast.neighbors.stream import units
from memfast.neighbors.tiles import in_halves
from memfast.runtime.memory import free_memory

# A pair costs 24 bytes, and as much again while it is sorted and collected.
_BYTES_PER_PAIR = 64
_LARGEST_TILE = 1 << 24
# Rows of length one are rounded to float32: two of them move by 2**-24 each, and a pair at the limit must not be lost.
UNIT_ROW_ROUNDING = 2.0**-23


@dataclass(frozen=True)
class Pairs:
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
    def collect(cls, blocks: Iterable["Pairs"]) -> "Pairs":
        """All pairs of several blocks, sorted by query, then distance, then index."""
        found = [(one.queries, one.indices, one.squared_distances) for one in blocks]
        if not found:
            return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))
        queries, indices, distances = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.lexsort((indices, distances, queries))
        return cls(queries[order], indices[order], distances[order])


def within(
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
) -> Iterator[Pairs]:
    """All pairs of a query and a database item within a radius (itself included), exact, in blocks.

    The number of pairs is not known beforehand, so they come as they are found: for each group of queries and each
    block of the database one ``Pairs``, sorted by query, distance and index. ``Pairs.collect`` puts all together. The
    search runs in this process alone, whatever ``torch.distributed`` has started.

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

    >>> pairs = Pairs.collect(within(np.array([[4]], np.uint8), np.array([[1], [9], [5]], np.uint8), radius=3))
    >>> pairs.indices.tolist(), pairs.squared_distances.tolist()
    ([2, 0], [1, 9])
    """
    if metric == "inner_product":
        raise InputError("metric", expected="'euclidean' or 'cosine'", received=repr(metric))
    sets = Sets.open(queries, database, metric)
    sets.check_one_set(exclude_self)
    limit = squared_limit(radius, radius_squared, similarity, metric)
    if sets.queries.length == 0:
        return iter(())
    sizes = sets.block_sizes(memory, 1)
    tile = _pairs_per_tile(memory)
    return _blocks(sets, limit, sizes, tile, exclude_self, progress, backend, upper=False)


def pairs_inside(sets: Sets, limit: float, *, memory: int | None, progress: bool, backend: str) -> Iterator[Pairs]:
    """All pairs i < j of one set (given as both queries and database) within a squared radius."""
    sizes, tile = sets.block_sizes(memory, 1), _pairs_per_tile(memory)
    return _blocks(sets, limit, sizes, tile, True, progress, backend, upper=True)


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


def _blocks(
    sets: Sets, limit: float, sizes: BlockSizes, tile_pairs: int, exclude_self: bool, progress: bool, backend: str,
    *, upper: bool,
) -> Iterator[Pairs]:  # fmt: skip
    convert_query, convert_row = sets.query_converter, sets.row_converter
    radius_squared = math.floor(limit) if sets.integers else float(limit)
    count, length = sets.queries.length, sets.database.length
    total = None if sets.streamed else sum(length - first * upper for first in range(0, count, sizes.queries))
    with Progress("searching", total, "rows", show=progress) as bar:
        for first in range(0, count, sizes.queries):
            last = min(first + sizes.queries, count)
            queries = convert_query(sets.queries.read(first, last), first)
            offset = first if upper else 0
            for raw in read_ahead(units(sets.database, offset, length, sizes.rows)):
                block = convert_row(raw, offset)
                with sets.naming_rows(queries, first, block, offset):
                    for pairs in _tiles(queries, block, radius_squared, first, offset, tile_pairs, backend):
                        kept = _filter(pairs, exclude_self, upper)
                        if len(kept):
                            yield kept
                bar.advance(len(raw))
                offset += len(raw)
    if sets.streamed:
        sets.check_one_set(exclude_self)


def _tiles(
    queries: np.ndarray,
    block: np.ndarray,
    radius_squared: float,
    first: int,
    offset: int,
    tile_pairs: int,
    backend: str,
) -> Iterator[Pairs]:
    """Pairs of one block; tiles are so small that even all of their pairs fit the memory."""
    rows = max(1, tile_pairs // len(queries))
    for start in range(0, len(block), rows):
        found: list[Pairs] = []

        def tile(q0: int, q1: int, r0: int, r1: int, found: list[Pairs] = found) -> None:
            query, index, distance = ops.range_search(queries[q0:q1], block[r0:r1], radius_squared, backend=backend)
            found.append(Pairs(query + (first + q0), index + (offset + r0), distance))

        in_halves(tile, 0, len(queries), start, min(start + rows, len(block)))
        yield from found if len(found) == 1 else [Pairs.collect(found)]


def _filter(pairs: Pairs, exclude_self: bool, upper: bool) -> Pairs:
    if not exclude_self:
        return pairs
    keep = pairs.indices > pairs.queries if upper else pairs.indices != pairs.queries
    return Pairs(pairs.queries[keep], pairs.indices[keep], pairs.squared_distances[keep])


def _pairs_per_tile(memory: int | None) -> int:
    budget = free_memory() // SHARE_OF_FREE if memory is None else memory
    return min(_LARGEST_TILE, max(1, budget // _BYTES_PER_PAIR))
