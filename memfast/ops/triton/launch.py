"""How the Triton kernels are launched: shapes to grids, options, the device.

A program serves up to ``QUADS`` groups of four elements of one sample. No launch reads a value from the device, so
every op can be captured in a CUDA graph.
"""

from contextlib import nullcontext
from typing import Any

import torch
import triton

from memfast.ops.checks import check_programs

QUADS = 256
# The noise's bits need every product rounded by itself.
EXACT: dict[str, Any] = {"enable_fp_fusion": False}


def tiles(name: str, batch: int, numel: int) -> tuple[int, int]:
    """(groups of four elements per program, programs per sample) for ``batch`` samples of ``numel`` elements.

    Raises:
        InputError: a launch cannot have so many programs; ``name`` is the argument that is too large.
    """
    quads = max(2, min(QUADS, triton.next_power_of_2(triton.cdiv(numel, 4))))
    programs = triton.cdiv(numel, 4 * quads)
    check_programs(name, batch, programs)
    return quads, programs


def options(quads: int) -> dict[str, Any]:
    """Launch options: two groups of four elements per thread where the sample is that long."""
    return {"num_warps": max(1, min(4, quads // 64)), **EXACT}


def on(tensor: torch.Tensor) -> Any:
    """The context in which kernels run on the tensor's device."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()
