"""Rows: any input seen as a table ``[N, D]`` that is read in ranges. Arrays, tensors, shards, sources, iterators."""

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from memfast.data.listing import natural_key
from memfast.data.source import Source, is_source
from memfast.foundation.arrays import dense_to_numpy, is_narrow_float, require_dense, require_unmasked
from memfast.foundation.errors import InputError
from memfast.neighbors.mapping import copy_and_release, memory_map
from memfast.neighbors.npy import NpyRows

READABLE = "uint8, float16, bfloat16, float32, float64 or another real number"


class Rows(Protocol):
    """A table read in ranges of rows; every item is flattened to ``width`` numbers.

    ``held`` says that the rows lie in memory already, so that reading a range costs none.
    """

    name: str
    dtype: np.dtype
    length: int
    width: int
    held: bool

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop``, ``[stop - start, width]``; a view where the data lies in memory."""
        ...

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The rows of these indices, in this order."""
        ...

    def locate(self, row: int) -> str:
        """Where a row is, for an error message."""
        ...

    def parts(self) -> list[tuple[str, int]]:
        """Name and number of rows of each shard."""
        ...

    def identity(self) -> list[list[int]] | None:
        """Inode, size and times of the files behind the rows, or None where no file holds them."""
        ...


def open_rows(value: Any, what: str, *, empty: bool = False) -> Rows:
    """See ``value`` as rows.

    Args:
        value: an array, a tensor, a memory map, a ``.npy`` file, a folder or list of ``.npy`` shards, a list of
            arrays, a source, or anything ``memfast.data.open_source`` reads.
        what: the argument's name, for errors.
        empty: whether it may have no rows.

    Raises:
        InputError: it cannot be read as a non-empty table of numbers, or its shards differ in shape or dtype.
    """
    rows = _open(value, what)
    if (rows.length == 0 and not empty) or rows.width == 0:
        raise InputError(
            what, expected="at least one item of at least one number", received=f"shape {rows.length} x {rows.width}"
        )
    if rows.dtype.kind not in "buif" or rows.dtype.itemsize > 8:
        raise InputError(what, expected=READABLE, received=str(rows.dtype), do="Convert it first.")
    return rows


def is_iterator(value: Any) -> bool:
    """Whether ``value`` is a one-pass iterable of blocks: it can be iterated but has no length and no index."""
    return isinstance(value, Iterator) or (isinstance(value, Iterable) and not hasattr(value, "__len__"))


class _ArrayRows:
    """Rows of a NumPy array or memory map."""

    def __init__(self, array: np.ndarray, name: str) -> None:
        self.array, self.name, self.dtype = array, name, array.dtype
        self.length = len(array) if array.ndim else 0
        self.width = int(np.prod(array.shape[1:], dtype=np.int64))
        self._map = memory_map(array)
        self.held = self._map is None and array.flags.c_contiguous

    def read(self, start: int, stop: int) -> np.ndarray:
        block = _flat(self.array[start:stop])
        return block if self._map is None else copy_and_release(block, self._map)

    def take(self, indices: np.ndarray) -> np.ndarray:
        return _flat(np.asarray(self.array[indices]))

    def locate(self, row: int) -> str:
        return f"row {row} of {self.name}"

    def parts(self) -> list[tuple[str, int]]:
        return [(self.name, self.length)]

    def identity(self) -> list[list[int]] | None:
        return None


class _TensorRows(_ArrayRows):
    """Rows of a torch tensor; bfloat16 and 8-bit floats, which NumPy lacks, are read as float32 without loss."""

    def __init__(self, tensor: torch.Tensor, name: str) -> None:
        require_dense(name, tensor)
        self.tensor = tensor.detach()
        probe = dense_to_numpy(self.tensor[:0]) if tensor.ndim else np.empty((), np.float32)
        self.name, self.dtype, self._map = name, probe.dtype, None
        self.held = tensor.device.type == "cpu" and tensor.is_contiguous() and not is_narrow_float(tensor)
        self.length = len(tensor) if tensor.ndim else 0
        self.width = int(np.prod(tensor.shape[1:], dtype=np.int64))

    def read(self, start: int, stop: int) -> np.ndarray:
        return _flat(dense_to_numpy(self.tensor[start:stop]))

    def take(self, indices: np.ndarray) -> np.ndarray:
        return _flat(dense_to_numpy(self.tensor[torch.from_numpy(indices).to(self.tensor.device)]))


class _SourceRows:
    """Rows of a ``memfast.data`` source."""

    held = False

    def __init__(self, source: Source, name: str) -> None:
        self.source, self.name, self.dtype = source, f"{name} ({source.name})", np.dtype(source.dtype)
        self.length, self.width = len(source), int(np.prod(source.item_shape, dtype=np.int64))

    def read(self, start: int, stop: int) -> np.ndarray:
        block = self.source.block(start, stop)
        flat, owner = _flat(block), memory_map(block)
        return flat if owner is None else copy_and_release(flat, owner)

    def take(self, indices: np.ndarray) -> np.ndarray:
        return _flat(self.source.take(indices))

    def locate(self, row: int) -> str:
        return f"item {row} of {self.name}: {self.source.item_name(row)}"

    def parts(self) -> list[tuple[str, int]]:
        return [(self.name, self.length)]

    def identity(self) -> list[list[int]] | None:
        return None


class _ShardedRows:
    """Several tables of one width and dtype, one after the other."""

    held = False

    def __init__(self, shards: Sequence[Rows], name: str) -> None:
        first = shards[0]
        for shard in shards[1:]:
            if shard.width != first.width or shard.dtype != first.dtype:
                raise InputError(
                    shard.name,
                    expected=f"{first.dtype} items of {first.width} numbers, as in {first.name}",
                    received=f"{shard.dtype} items of {shard.width} numbers",
                    do="All shards of a set need one shape and one dtype.",
                )
        self.shards, self.name, self.dtype, self.width = list(shards), name, first.dtype, first.width
        self._starts = np.cumsum([0] + [shard.length for shard in shards]).tolist()
        self.length = self._starts[-1]

    def read(self, start: int, stop: int) -> np.ndarray:
        pieces = []
        for shard, first in zip(self.shards, self._starts, strict=False):
            low, high = max(start - first, 0), min(stop - first, shard.length)
            if low < high:
                pieces.append(shard.read(low, high))
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def take(self, indices: np.ndarray) -> np.ndarray:
        found = np.empty((len(indices), self.width), self.dtype.newbyteorder("="))
        for shard, first in zip(self.shards, self._starts, strict=False):
            here = (indices >= first) & (indices < first + shard.length)
            if here.any():
                found[here] = shard.take(indices[here] - first)
        return found

    def locate(self, row: int) -> str:
        number = bisect_right(self._starts, row) - 1
        return self.shards[number].locate(row - self._starts[number])

    def parts(self) -> list[tuple[str, int]]:
        return [part for shard in self.shards for part in shard.parts()]

    def identity(self) -> list[list[int]] | None:
        found = [shard.identity() for shard in self.shards]
        return None if any(one is None for one in found) else [line for one in found if one for line in one]


def _open(value: Any, what: str) -> Rows:
    require_unmasked(what, value)
    if isinstance(value, torch.Tensor):
        return _TensorRows(value, what)
    if isinstance(value, np.ndarray):
        return _ArrayRows(value, what)
    if isinstance(value, _ArrayRows | _SourceRows | _ShardedRows | NpyRows):
        return value
    if is_source(value):
        return _SourceRows(value, what)
    if isinstance(value, list | tuple):
        if not value:
            raise InputError(what, expected="at least one shard", received="an empty list")
        if not all(
            isinstance(shard, np.ndarray | torch.Tensor | str | os.PathLike) or is_source(shard) for shard in value
        ):
            raise InputError(what, expected="a list of arrays or .npy files", received="a list of something else")
        return _ShardedRows([_open(shard, f"{what}[{number}]") for number, shard in enumerate(value)], what)
    if isinstance(value, str | os.PathLike):
        return _open_path(Path(value), what)
    raise InputError(
        what,
        expected="an array, a tensor, a .npy file, a folder or list of .npy shards, or a source",
        received=type(value).__name__,
    )


def _open_path(path: Path, what: str) -> Rows:
    if path.suffix == ".npy" and not path.is_dir():
        return NpyRows(path)
    shards = sorted(path.glob("*.npy"), key=lambda shard: natural_key(shard.name)) if path.is_dir() else []
    if shards:
        return _ShardedRows([NpyRows(shard) for shard in shards], str(path))
    from memfast.data import open_source

    return _SourceRows(open_source(path), what)


def _flat(block: np.ndarray) -> np.ndarray:
    return block.reshape(len(block), -1)
