"""Any input seen as a table ``[N, D]`` that is read in ranges of rows: arrays, tensors, files, shards, sources.

A memory map gives its pages back after a copy. A ``.npy`` file is read by plain reads, so that a file that shrinks is
an error and not a crash.
"""

import hashlib
import math
import mmap
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import DTypeLike

from memfast.data.listing import natural_key
from memfast.data.source import Source, is_source
from memfast.foundation.arrays import dense_to_numpy, is_narrow_float, require_dense, require_unmasked
from memfast.foundation.errors import InputError

_HASHED_BYTES = 1 << 22
READABLE = "uint8, float16, bfloat16, float32, float64 or another real number"


class RowReader(Protocol):
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

    def content_hash(self) -> str:
        """A hash of dtype, shape and values."""
        ...


def open_rows(value: Any, what: str, *, empty: bool = False) -> RowReader:
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


def hash_rows(rows: RowReader) -> str:
    """SHA-256 of dtype, shape and values, read in ranges."""
    digest = hashlib.sha256(f"{rows.dtype.str}{rows.length}x{rows.width}".encode())
    step = max(1, _HASHED_BYTES // max(1, rows.width * rows.dtype.itemsize))
    for start in range(0, rows.length, step):
        digest.update(np.ascontiguousarray(rows.read(start, min(start + step, rows.length))).data)
    return digest.hexdigest()


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

    def content_hash(self) -> str:
        return hash_rows(self)


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
        flat, owner = self._checked(block, stop - start), memory_map(block)
        return flat if owner is None else copy_and_release(flat, owner)

    def take(self, indices: np.ndarray) -> np.ndarray:
        return self._checked(self.source.take(indices), len(indices))

    def locate(self, row: int) -> str:
        return f"item {row} of {self.name}: {self.source.item_name(row)}"

    def parts(self) -> list[tuple[str, int]]:
        return [(self.name, self.length)]

    def identity(self) -> list[list[int]] | None:
        return None

    def content_hash(self) -> str:
        # A source may know its hash already.
        return self.source.content_hash()

    def _checked(self, block: np.ndarray, count: int) -> np.ndarray:
        """The block as rows; a source that gives fewer items than it has would shift all that follow."""
        flat = _flat(block)
        if flat.shape != (count, self.width) or flat.dtype != self.dtype:
            raise InputError(
                self.name,
                expected=f"{count} {self.dtype} items of {self.width} numbers, as the source says of itself",
                received=f"{len(flat)} {flat.dtype} items of {flat.shape[1]}",
                do="The data changed or was truncated while it was read.",
            )
        return flat


class _ShardedRows:
    """Several tables of one width and dtype, one after the other."""

    held = False

    def __init__(self, shards: Sequence[RowReader], name: str) -> None:
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

    def content_hash(self) -> str:
        return hash_rows(self)


class ChosenRows:
    """Some rows of a table, in ascending order.

    Args:
        rows: the table.
        chosen: int64 row numbers, ascending.
    """

    held = False

    def __init__(self, rows: RowReader, chosen: np.ndarray) -> None:
        self.rows, self.chosen, self.length = rows, chosen, len(chosen)
        self.name, self.dtype, self.width = rows.name, rows.dtype, rows.width

    def read(self, start: int, stop: int) -> np.ndarray:
        """The chosen rows ``start`` to ``stop``."""
        wanted = self.chosen[start:stop]
        if len(wanted) and wanted[-1] - wanted[0] < 2 * len(wanted):
            return self.rows.read(int(wanted[0]), int(wanted[-1]) + 1)[wanted - wanted[0]]
        return self.rows.take(wanted)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The chosen rows of these places, in this order."""
        return self.rows.take(self.chosen[indices])

    def locate(self, row: int) -> str:
        """Where the row is in the whole table."""
        return self.rows.locate(int(self.chosen[row]))

    def parts(self) -> list[tuple[str, int]]:
        """One part."""
        return [(self.name, self.length)]

    def identity(self) -> list[list[int]] | None:
        """None: the files behind the table do not say which rows were chosen."""
        return None

    def content_hash(self) -> str:
        """A hash of dtype, shape and values."""
        return hash_rows(self)


def _open(value: Any, what: str) -> RowReader:
    require_unmasked(what, value)
    if isinstance(value, torch.Tensor):
        return _TensorRows(value, what)
    if isinstance(value, np.ndarray):
        return _ArrayRows(value, what)
    if isinstance(value, _ArrayRows | _SourceRows | _ShardedRows | NpyRows | ChosenRows):
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


def _open_path(path: Path, what: str) -> RowReader:
    if path.suffix == ".npy" and not path.is_dir():
        return NpyRows(path)
    shards = sorted(path.glob("*.npy"), key=lambda shard: natural_key(shard.name)) if path.is_dir() else []
    if shards:
        return _ShardedRows([NpyRows(shard) for shard in shards], str(path))
    from memfast.data import open_source

    return _SourceRows(open_source(path), what)


def _flat(block: np.ndarray) -> np.ndarray:
    return block.reshape(len(block), -1)


class NpyRows:
    """Rows of one ``.npy`` file.

    A memory map of a file that shrinks ends the process with a bus error; reads return what is there, so the loss
    can be named. Fortran-ordered files have their rows scattered and are refused.

    Raises:
        InputError: it is not a readable ``.npy`` file, holds objects, or is shorter than its header says.
    """

    held = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name = str(path)
        shape, self.dtype, self._offset = _header(self.path)
        self.length = shape[0] if shape else 0
        self.width = int(np.prod(shape[1:], dtype=np.int64))
        needed = self._offset + self.length * self.width * self.dtype.itemsize
        held = self.path.stat().st_size
        if held < needed:
            raise InputError(
                self.name,
                expected=f"{needed} bytes for {self.length} rows of {self.width} {self.dtype}",
                received=f"{held} bytes",
                do="The file is truncated: copy or write it again.",
            )

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop``, freshly read."""
        block = new_block((stop - start, self.width), self.dtype)
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self._offset + start * self.width * self.dtype.itemsize)
            self._fill(file, block.reshape(-1).view(np.uint8).data)
        return block

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The rows of these indices, in this order."""
        array = np.memmap(self.path, self.dtype, "r", self._offset, (self.length, self.width))
        return np.asarray(array[indices])

    def locate(self, row: int) -> str:
        """The file and the row in it."""
        return f"row {row} of {self.name}"

    def parts(self) -> list[tuple[str, int]]:
        """The file's name without its folder, and its rows."""
        return [(self.path.name, self.length)]

    def identity(self) -> list[list[int]] | None:
        """Inode, size and times: equal values mean that nobody wrote to the file since."""
        status = self.path.stat()
        return [[status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]]

    def content_hash(self) -> str:
        """A hash of dtype, shape and values."""
        return hash_rows(self)

    def _fill(self, file: Any, target: memoryview) -> None:
        while target:
            count = file.readinto(target)
            if not count:
                raise InputError(
                    self.name,
                    expected=f"{self.length} rows, as when it was opened",
                    received="a shorter file",
                    do="It was truncated while it was read.",
                )
            target = target[count:]


def _header(path: Path) -> tuple[tuple[int, ...], np.dtype, int]:
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            offset = file.tell()
    except FileNotFoundError:
        raise InputError(str(path), expected="a .npy file", received="no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(str(path), expected="a readable .npy file", received=str(error)) from error
    if dtype.hasobject or (fortran and len(shape) > 1):
        kind = "pickled objects, which are never loaded" if dtype.hasobject else "Fortran order"
        raise InputError(
            str(path), expected="numbers in C order", received=kind, do="Save numpy.ascontiguousarray of it."
        )
    return shape, dtype, offset


def new_block(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An array whose memory goes back to the system as soon as nobody holds it.

    The C library keeps freed blocks of up to 32 MB for itself (glibc raises its limit for mappings with the first one
    freed), in one heap per thread: a scan of small blocks then holds several times what is alive.

    Raises:
        MemoryError: there is no room for it.
    """
    dtype = np.dtype(dtype)
    count = math.prod(shape)
    size = count * dtype.itemsize
    if not size or not hasattr(mmap, "MAP_PRIVATE"):
        return np.empty(shape, dtype)
    try:
        owner = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"no room for a block of {size} bytes") from error
    return np.frombuffer(owner, dtype, count).reshape(shape)


def memory_map(array: np.ndarray) -> mmap.mmap | None:
    """The shared mapping of a file behind an array, or None: the pages of any other may hold what is nowhere else."""
    base: Any = array
    of_file = False
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            if base.mode == "c":
                return None
            of_file = True
        base = base.base
    return base if of_file and isinstance(base, mmap.mmap) else None


def copy_and_release(block: np.ndarray, owner: mmap.mmap) -> np.ndarray:
    """Copy a range out of a mapping and give its pages back, so that a scan does not fill the memory."""
    copy = new_block(block.shape, block.dtype)
    copy[...] = block
    if hasattr(mmap, "MADV_DONTNEED") and block.flags.c_contiguous and block.nbytes:
        first = block.ctypes.data - np.frombuffer(owner, np.uint8).ctypes.data
        low = first - first % mmap.PAGESIZE
        owner.madvise(mmap.MADV_DONTNEED, low, min(first + block.nbytes, len(owner)) - low)
    return copy
