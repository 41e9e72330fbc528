"""IEEE arithmetic for what PyTorch computes of an op on a CPU, whatever mode its threads are in (docs/exactness.md).

A thread may flush subnormal numbers to zero because its program asked for that (``torch.set_flush_denormal``), or
because the thread that started it did. Python can reset the calling thread only, so the workers are left out where
one flushes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

# PyTorch shares a loop out from so many elements per thread on.
GRAIN = 32768
SUBNORMAL = 1e-40


@contextmanager
def ieee_arithmetic(device: torch.device) -> Iterator[None]:
    """Keep subnormal numbers inside, on a CPU; the mode and the number of threads are restored afterwards."""
    if device.type != "cpu" or not _flushes():
        yield
        return
    threads, caller = torch.get_num_threads(), _caller_flushes()
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)
    try:
        yield
    finally:
        torch.set_flush_denormal(caller)
        torch.set_num_threads(threads)


def _flushes() -> bool:
    """Whether the calling thread or one of PyTorch's workers makes a subnormal number zero."""
    return bool((_probe(torch.get_num_threads()) * 1.0 == 0.0).any())


def _caller_flushes() -> bool:
    return bool((torch.full((1,), SUBNORMAL, dtype=torch.float32, device="cpu") * 1.0 == 0.0).any())


@cache
def _probe(threads: int) -> torch.Tensor:
    """Subnormal numbers, enough of them that every thread gets some."""
    return torch.full((GRAIN * threads,), SUBNORMAL, dtype=torch.float32, device="cpu")
