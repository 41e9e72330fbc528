"""Noise by the C++ kernels, from tensors or a uint8 data set. Signature: ``memfast.ops.contract``."""

import torch

from memfast.ops.checks import check_values
from memfast.ops.compiled import CPU, load, number_types, operands_struct
from memfast.ops.cpu.random import draw_timesteps
from memfast.ops.operands import Draw, Operands


def noise(operands: Operands, draw: Draw | None, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_in ``[B, D]`` in ``dtype``, timesteps int64 ``[B]``)."""
    if draw is not None:
        operands = operands._replace(timesteps=draw_timesteps(draw, operands.sample_ids, operands.key))
    assert operands.timesteps is not None
    if operands.indices is None:
        out = torch.empty_like(operands.x0)
    else:
        out = torch.empty(operands.shape, dtype=dtype, device="cpu")
    struct = operands_struct(CPU, operands)
    if load(CPU).noise(struct, number_types(CPU)[dtype], out.data_ptr(), torch.get_num_threads()):
        check_values(operands)
    return out, operands.timesteps
