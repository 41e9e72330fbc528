"""A ``.npy`` file read in ranges by plain reads: constant memory, and a truncated file is an error, not a crash."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from memfast.foundation.errors import InputError
from memfast.neighbors.mapping import new_block


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
