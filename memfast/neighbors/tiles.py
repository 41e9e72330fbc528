"""One block against one group of queries: on a GPU where there is one, in halves where memory runs out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from memfast import ops
from memfast.foundation.errors import BackendUnavailableError, InputError
from memfast.neighbors.topk import NOBODY, RunningTopK
from memfast.ops.registry import implementation

CPU = torch.device("cpu")
SMALLEST_TILE = 4096


@dataclass(frozen=True)
class Found:
    """Sorted lists of the queries from ``first`` on, with database indices."""

    first: int
    squared_distances: np.ndarray
    indices: np.ndarray
    fallbacks: int


def search_block(
    running: RunningTopK, queries: np.ndarray, block: np.ndarray, offset: int, *, own: int | None, backend: str
) -> list[Found]:
    """The nearest rows of a block that may enter the running lists of a group of queries, in the order to merge them.

    Nothing is merged here: a search that fails half-way leaves the lists as they were.

    Args:
        running: the lists; their k-th distances bound the search.
        queries: ``[q, D]``.
        block: ``[m, D]``, rows ``offset`` and following of the database.
        offset: index of the block's first row.
        own: the database row of the first query, left out for it (and the next for the next query, and so on), or None.
        backend: handed to the kernel.

    Raises:
        InputError: not enough memory even for a small tile.
    """
    results: list[Found] = []

    def tile(q0: int, q1: int, r0: int, r1: int) -> None:
        exclude = None if own is None else _excluded(own + q0, q1 - q0, offset + r0, r1 - r0)
        k, bound = running.indices.shape[1], running.bound(q0, q1)
        found = ops.nearest(queries[q0:q1], block[r0:r1], k, bound=bound, exclude=exclude, backend=backend)
        indices = np.where(found.indices == NOBODY, NOBODY, found.indices + (offset + r0))
        results.append(Found(q0, found.squared_distances, indices, found.fallbacks))

    in_halves(tile, 0, len(queries), 0, len(block))
    return results


def in_halves(tile: Callable[[int, int, int, int], None], q0: int, q1: int, r0: int, r1: int) -> None:
    """Call ``tile(q0, q1, r0, r1)``; where it runs out of memory, call it for halves, in ascending order of rows.

    Raises:
        InputError: a tile of ``SMALLEST_TILE`` pairs does not fit either.
    """
    try:
        tile(q0, q1, r0, r1)
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if (q1 - q0) * (r1 - r0) <= SMALLEST_TILE:
            raise InputError(
                "memory",
                expected=f"room for {q1 - q0} queries against {r1 - r0} rows",
                received=f"out of memory ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
                do="Free memory, or use smaller items.",
            ) from error
    if q1 - q0 > 1 and q1 - q0 >= (r1 - r0) // 16:
        middle = (q0 + q1) // 2
        in_halves(tile, q0, middle, r0, r1)
        in_halves(tile, middle, q1, r0, r1)
    else:
        middle = (r0 + r1) // 2
        in_halves(tile, q0, q1, r0, middle)
        in_halves(tile, q0, q1, middle, r1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the host or on a device."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "not enough memory" in text)
    )


def search_device(integers: bool, backend: str) -> torch.device:
    """The device whose kernels serve a search.

    Args:
        integers: both sets are uint8; the certified float search runs on the CPU.
        backend: ``"auto"`` or a backend's name.
    """
    if not (integers and torch.cuda.is_available()):
        return CPU
    device = torch.device("cuda", torch.cuda.current_device())
    try:
        kernel = implementation("nearest", device, backend)
    except BackendUnavailableError:
        return CPU
    return CPU if kernel.__module__.startswith("memfast.ops.reference") else device


def to_device(block: np.ndarray, device: torch.device) -> Any:
    """The block itself for the CPU, otherwise a tensor on the device, by way of pinned memory."""
    if device.type == "cpu":
        return block
    staged = torch.empty(block.shape, dtype=torch.uint8, pin_memory=True)
    staged.numpy()[...] = block
    return staged.to(device)


def _excluded(first_own: int, count: int, offset: int, rows: int) -> np.ndarray | None:
    """For each query the block row that is itself, or -1; None where no query lies in the block."""
    own = np.arange(first_own, first_own + count, dtype=np.int64) - offset
    own[(own < 0) | (own >= rows)] = NOBODY
    return own if (own != NOBODY).any() else None
