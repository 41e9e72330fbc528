"""How much memory a search may take, and the block sizes that follow from it."""

from dataclasses import dataclass

from memfast.foundation.errors import InputError
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
