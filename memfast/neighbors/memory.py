"""How much memory a search may take, and the block sizes that follow from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError

SHARE_OF_FREE = 4
LARGEST_BLOCK = 1 << 27
FALLBACK_FREE = 4 << 30
# A database block is alive up to three times: being computed, waiting, being read or converted.
BLOCKS_IN_FLIGHT = 3


@dataclass(frozen=True)
class BlockSizes:
    """Queries and database rows that are handled together."""

    queries: int
    rows: int


def free_memory() -> int:
    """Bytes that are free on this machine or in this container."""
    free = [_available(), _container_room()]
    return min([one for one in free if one is not None], default=FALLBACK_FREE)


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


def bytes_allowed(memory: Any) -> int:
    """A memory budget as a whole number of bytes; floats like 4e9 are such numbers here.

    Raises:
        InputError: it is none.
    """
    if isinstance(memory, float) and memory.is_integer():
        memory = int(memory)
    return whole_number("memory", memory, least=0, words="a number of bytes", do="2 GiB are 2 * 2**30.")


def _even(total: int, largest: int) -> int:
    """The block size that splits ``total`` into as few, nearly equal blocks as ``largest`` allows."""
    return -(-total // -(-total // largest))


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _container_room() -> int | None:
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        return None if limit == "max" else max(0, int(limit) - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):
        return None
