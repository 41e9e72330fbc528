"""The two sets of a search, opened and checked against each other, and the blocks in which they are compared."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.neighbors.precision import Converter, compute_dtype
from memfast.neighbors.result import Neighbors
from memfast.neighbors.rows import RowReader, is_iterator, open_rows
from memfast.neighbors.stream import StreamRows, gather
from memfast.runtime.distributed import Ranks
from memfast.runtime.memory import bytes_allowed, free_memory

SHARE_OF_FREE = 4
LARGEST_BLOCK = 1 << 27
# A database block is alive up to three times: being computed, waiting, being read or converted.
BLOCKS_IN_FLIGHT = 3


@dataclass(frozen=True)
class BlockSizes:
    """Queries and database rows that are handled together."""

    queries: int
    rows: int


@dataclass(frozen=True)
class SearchInputs:
    """Queries and database, and how they are compared.

    Attributes:
        queries: rows, read in groups.
        database: rows, read in blocks; a ``StreamRows`` is read once.
        metric: ``"euclidean"`` or ``"cosine"``.
    """

    queries: RowReader
    database: RowReader
    metric: str

    @classmethod
    def open(cls, queries: Any, database: Any, metric: str) -> "SearchInputs":
        """Open both.

        Raises:
            InputError: one is unreadable, the database is empty, or their items differ in size.
        """
        ours = gather(queries, "queries") if is_iterator(queries) else open_rows(queries, "queries", empty=True)
        theirs: RowReader = (
            StreamRows(database, "database") if is_iterator(database) else open_rows(database, "database")
        )
        if ours.width != theirs.width:
            raise InputError(
                "queries", expected=f"items of {theirs.width} numbers, as in the database",
                received=f"items of {ours.width}", do="Bring both sets to one size.",
            )  # fmt: skip
        compute_dtype(ours.dtype, metric)
        return cls(ours, theirs, metric)

    @property
    def streamed(self) -> bool:
        """Whether the database is an iterator."""
        return isinstance(self.database, StreamRows)

    @property
    def integers(self) -> bool:
        """Whether distances are integers: both inputs are bytes."""
        return all(compute_dtype(rows.dtype, self.metric) == np.uint8 for rows in (self.queries, self.database))

    @property
    def distance(self) -> np.dtype:
        """The dtype of squared distances."""
        return np.dtype(np.int64 if self.integers else np.float64)

    @property
    def query_converter(self) -> Converter:
        """Makes query blocks ready for the kernel."""
        return Converter(self.queries, self.metric, check=False)

    @property
    def row_converter(self) -> Converter:
        """Makes database blocks ready for the kernel."""
        return Converter(self.database, self.metric, check=False)

    def empty(self, k: int, exactness: str) -> Neighbors:
        """The neighbours of no queries."""
        return Neighbors(np.empty((0, k), self.distance), np.empty((0, k), np.int64), exactness, self.metric)

    @contextmanager
    def naming_rows(self, queries: np.ndarray, first: int, block: np.ndarray, offset: int) -> Iterator[None]:
        """Run a kernel; where it refuses NaN, name the row of the whole set rather than of the block."""
        try:
            yield
        except InputError:
            if not self.integers:
                self.query_converter.check_finite(queries, first)
                self.row_converter.check_finite(block, offset)
            raise

    def block_sizes(self, memory: int | None, k: int) -> BlockSizes:
        """Block sizes for a budget.

        Raises:
            InputError: it is too small.
        """
        # A block is read (unless it lies in memory), converted (where that copies) and packed by the kernel.
        convert = self.row_converter
        read = 0 if self.database.held else self.database.dtype.itemsize
        sizes = block_sizes(
            memory, queries=self.queries.length, rows=1 << 40 if self.streamed else self.database.length,
            width=self.queries.width, k=k, query_item=self.query_converter.compute.itemsize,
            row_item=read + convert.compute.itemsize * (1 + convert.copies),
        )  # fmt: skip
        if self.streamed and sizes.queries < self.queries.length:
            raise InputError(
                "memory", expected=f"room for all {self.queries.length} queries, as an iterator is read only once",
                received=f"room for {sizes.queries}", do="Allow more memory, or give the database as shards.",
            )  # fmt: skip
        return sizes

    def check_k(self, k: int, exclude_self: bool) -> None:
        """Raise unless ``k`` fits the database (as far as its length is known).

        Raises:
            InputError: k < 1, k > N, or ``exclude_self`` between inputs of different length.
        """
        whole_number("k", k, least=1)
        length = self.database.length
        if length < 0:
            return
        self.check_one_set(exclude_self)
        if k > length - exclude_self:
            others = ", the number of database items" + (" but the query" if exclude_self else "")
            raise InputError(
                "k",
                expected=f"at most {length - exclude_self}{others}",
                received=str(k),
                do="Ask for fewer neighbours.",
            )

    def check_shareable(self, ranks: Ranks) -> None:
        """Raise where several ranks would each read a part of an iterator.

        Raises:
            InputError: the database is an iterator, and there are several ranks.
        """
        if self.streamed and ranks.size > 1:
            raise InputError(
                "database", expected="data that ranks can share", received="an iterator", do="Give shards."
            )

    def check_same_on(self, ranks: Ranks, options: dict[str, Any]) -> None:
        """Raise on every rank unless all of them hold the same sets and options.

        Each rank searches its own part of the database and the parts are put together by row numbers: a rank that
        lacks a shard, has an older version or another order would give a wrong result in silence. What the ranks read
        from the same unchanged files of one machine need not be hashed.

        Args:
            ranks: the processes that share the search.
            options: what else decides the result, as JSON values.

        Raises:
            InputError: two ranks differ; the text says in what.
        """
        if ranks.size == 1:
            return
        shards = [list(part) for rows in (self.queries, self.database) for part in rows.parts()]
        kinds = [[rows.dtype.name, rows.length, rows.width] for rows in (self.queries, self.database)]
        _check_equal(ranks, "dtype, rows and numbers per row of queries and database", kinds)
        _check_equal(ranks, "rows of the shards", [count for _, count in shards])
        _check_equal(ranks, "options", options)
        for name, rows in (("queries", self.queries), ("database", self.database)):
            where = rows.identity()
            places = ranks.gather_values(None if where is None else [platform.node(), where])
            if places[0] is None or any(place != places[0] for place in places):
                with ranks.fail_together():
                    content = rows.content_hash()
                _check_equal(ranks, f"content of the {name}", content)

    def check_one_set(self, exclude_self: bool) -> None:
        """Raise where ``exclude_self`` is on and the two sets differ in length."""
        if exclude_self and 0 <= self.database.length != self.queries.length:
            raise InputError(
                "exclude_self", expected="queries and database to be one set",
                received=f"{self.queries.length} queries and {self.database.length} database items",
            )  # fmt: skip


def block_sizes(
    memory: int | None,
    *,
    queries: int,
    rows: int,
    width: int,
    k: int,
    query_item: int,
    row_item: int,
) -> BlockSizes:
    """Choose block sizes for a memory budget; they do not grow with the number of rows.

    Args:
        memory: bytes, or None for a quarter of what is free.
        queries: number of queries.
        rows: number of database rows.
        width: numbers per row.
        k: neighbours per query.
        query_item: bytes per number of a query while it is searched.
        row_item: bytes per number of a database row, read and converted together.

    Raises:
        InputError: the budget does not hold one query and one row.
    """
    budget = free_memory() // SHARE_OF_FREE if memory is None else bytes_allowed(memory)
    # A query costs its numbers and three lists: the running one, the block's and the merged one.
    per_query = width * query_item + 3 * 16 * k
    per_row = width * row_item * BLOCKS_IN_FLIGHT
    if budget < 2 * max(per_query, per_row):
        raise InputError(
            "memory",
            expected=f"at least {2 * max(per_query, per_row)} bytes for one query and one row",
            received=f"{budget} bytes",
            do="Allow more memory.",
        )
    group = min(queries, max(1, budget // 2 // per_query))
    row_budget = min(budget // 2, LARGEST_BLOCK * BLOCKS_IN_FLIGHT)
    return BlockSizes(_even(queries, group), _even(rows, min(rows, max(1, row_budget // per_row))))


def _even(total: int, largest: int) -> int:
    """The block size that splits ``total`` into as few, nearly equal blocks as ``largest`` allows."""
    return -(-total // -(-total // largest))


def _check_equal(ranks: Ranks, what: str, mine: Any) -> None:
    """Raise the same error on every rank where one rank's value is not that of rank 0."""
    values = ranks.gather_values(mine)
    for rank, value in enumerate(values):
        if value != values[0]:
            raise InputError(
                what, expected=f"the same on every rank; {_shorten(values[0])} on rank 0",
                received=f"{_shorten(value)} on rank {rank}",
                do="Give every rank the same samples, options and data, in the same order.",
            )  # fmt: skip


def _shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:200] + "..."
