"""The next block is read while this one is computed."""

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

from memfast.foundation.errors import InputError

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


def _as_rows(block: Any, number: int, first: np.ndarray | None) -> np.ndarray:
    from memfast.neighbors.rows import open_rows

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
