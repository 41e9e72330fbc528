"""A database that comes once, block by block, from an iterator."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from memfast.foundation.errors import InputError
from memfast.neighbors.reading import in_units
from memfast.neighbors.rows import Rows, open_rows

UNKNOWN = -1


class StreamRows:
    """Rows of an iterator of blocks (arrays or tensors ``[n, *item_shape]``); read once, in order.

    Raises:
        InputError: it gives no block.
    """

    held = False

    def __init__(self, blocks: Iterable[Any], name: str) -> None:
        remaining = iter(blocks)
        first = next(remaining, None)
        if first is None:
            raise InputError(name, expected="at least one block", received="an iterator that is at its end")
        probe = open_rows(first, f"{name}, block 0")
        self.name, self.dtype, self.width, self.length = name, probe.dtype, probe.width, UNKNOWN
        self._blocks = chain([first], remaining)

    def units(self, unit_rows: int) -> Iterator[np.ndarray]:
        """The rows in units of one size; counts them, so that ``length`` is right afterwards."""
        count = 0
        for unit in in_units(self._blocks, unit_rows):
            count += len(unit)
            yield unit
        self.length = count

    def read(self, start: int, stop: int) -> np.ndarray:
        """Not possible: an iterator has no rows by index."""
        raise self._refusal()

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Not possible: an iterator has no rows by index."""
        raise self._refusal()

    def locate(self, row: int) -> str:
        """The row's number in the stream."""
        return f"row {row} of {self.name}"

    def parts(self) -> list[tuple[str, int]]:
        """One part of unknown length."""
        return [(self.name, UNKNOWN)]

    def identity(self) -> list[list[int]] | None:
        """None: nothing says whether a stream is the same as another."""
        return None

    def _refusal(self) -> InputError:
        return InputError(
            self.name,
            expected="data that can be read by index",
            received="an iterator",
            do="Give an array, a memory map or .npy shards.",
        )


def units(rows: Rows, start: int, stop: int, unit_rows: int) -> Iterator[np.ndarray]:
    """Rows ``start`` to ``stop`` in units of one size; all rows of a stream, whatever the range."""
    if isinstance(rows, StreamRows):
        yield from rows.units(unit_rows)
        return
    for offset in range(start, stop, unit_rows):
        yield rows.read(offset, min(offset + unit_rows, stop))


def gather(blocks: Iterable[Any], name: str) -> Rows:
    """All blocks of an iterator as one array in memory."""
    stream = StreamRows(blocks, name)
    return open_rows(np.concatenate(list(stream.units(1 << 16))), name)
