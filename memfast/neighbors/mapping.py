"""Blocks read without filling the memory: file pages are given back after a copy, and the copy's when it is dropped."""

import math
import mmap
from typing import Any

import numpy as np
from numpy.typing import DTypeLike


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
