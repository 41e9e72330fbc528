"""Data that comes block by block: the next block is read while this one is computed, and iterators are read once."""

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from memfast.foundation.errors import InputError
from memfast.neighbors.rows import RowReader, open_rows

Item = TypeVar("Item")
_END = object()


def read_ahead(items: Iterable[Item]) -> Generator[Item, None, None]:
    """Yield ``items`` in order, with the next one made by a thread in the meantime.

    An error of the producer is raised to the consumer at its place; leaving the loop early stops the thread.
    """
    ready: queue.Queue[Any] = queue.Queue(maxsize=1)
    stopped = threading.Event()
    thread = threading.Thread(
        target=_produce, args=(iter(items), ready, stopped), daemon=True, name="memfast-read-ahead"
    )
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
            del item
    finally:
        stopped.set()
        thread.join()


def in_units(blocks: Iterable[Any], unit_rows: int) -> Iterator[np.ndarray]:
    """Cut blocks of any number of rows into units of ``unit_rows`` (the last may be shorter), items flattened."""
    held: list[np.ndarray] = []
    count = 0
    first: np.ndarray | None = None
    for number, block in enumerate(blocks):
        rows = _as_rows(block, number, first)
        first = rows[:0] if first is None else first
        while len(rows):
            piece, rows = rows[: unit_rows - count], rows[unit_rows - count :]
            held.append(piece)
            count += len(piece)
            if count == unit_rows:
                yield held[0] if len(held) == 1 else np.concatenate(held)
                held, count = [], 0
    if count:
        yield held[0] if len(held) == 1 else np.concatenate(held)


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

    def content_hash(self) -> str:
        """Not possible: reading an iterator uses it up."""
        raise self._refusal()

    def _refusal(self) -> InputError:
        return InputError(
            self.name,
            expected="data that can be read by index",
            received="an iterator",
            do="Give an array, a memory map or .npy shards.",
        )


def units(rows: RowReader, start: int, stop: int, unit_rows: int) -> Iterator[np.ndarray]:
    """Rows ``start`` to ``stop`` in units of one size; all rows of a stream, whatever the range."""
    if isinstance(rows, StreamRows):
        yield from rows.units(unit_rows)
        return
    for offset in range(start, stop, unit_rows):
        yield rows.read(offset, min(offset + unit_rows, stop))


def gather(blocks: Iterable[Any], name: str) -> RowReader:
    """All blocks of an iterator as one array in memory."""
    stream = StreamRows(blocks, name)
    return open_rows(np.concatenate(list(stream.units(1 << 16))), name)


def _as_rows(block: Any, number: int, first: np.ndarray | None) -> np.ndarray:
    rows = open_rows(block, f"block {number}")
    if first is not None and (rows.width, rows.dtype) != (first.shape[1], first.dtype):
        raise InputError(
            f"block {number}",
            expected=f"{first.dtype} items of {first.shape[1]} numbers, as before",
            received=f"{rows.dtype} items of {rows.width} numbers",
        )
    return rows.read(0, rows.length)


def _produce(items: Iterator[Any], ready: queue.Queue[Any], stopped: threading.Event) -> None:
    while not stopped.is_set():
        message: tuple[Any, BaseException | None]
        try:
            message = (next(items, _END), None)
        except BaseException as error:
            message = (None, error)
        while not stopped.is_set():
            try:
                ready.put(message, timeout=0.1)
                break
            except queue.Full:
                continue
        if message[1] is not None or message[0] is _END:
            return
        del message
