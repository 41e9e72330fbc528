"""Memory maps read without filling the memory."""

import mmap
from typing import Any

import numpy as np


def memory_map(array: np.ndarray) -> mmap.mmap | None:
    """The shared file mapping behind an array, or None; a private one (mode "c") may hold changes and is left alone."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and base.mode == "c":
            return None
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def copy_and_release(block: np.ndarray, owner: mmap.mmap) -> np.ndarray:
    """Copy a range out of a mapping and give its pages back, so that a scan does not fill the memory."""
    copy = np.array(block, order="C")
    if hasattr(mmap, "MADV_DONTNEED") and block.flags.c_contiguous and block.nbytes:
        first = block.ctypes.data - np.frombuffer(owner, np.uint8).ctypes.data
        low = first - first % mmap.PAGESIZE
        owner.madvise(mmap.MADV_DONTNEED, low, min(first + block.nbytes, len(owner)) - low)
    return copy
