"""Noise on CUDA, from tensors or a uint8 data set, in one launch. Signature: ``memfast.ops.contract``."""

import torch

from memfast.ops.compiled import CUDA, draw_struct, load, number_types, operands_struct
from memfast.ops.cuda.random import check_grid, stream_of
from memfast.ops.operands import Draw, Operands


def noise(operands: Operands, draw: Draw | None, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_in ``[B, D]`` in ``dtype``, timesteps int64 ``[B]``)."""
    batch, numel = operands.shape
    check_grid("x0", batch, numel, dtype)
    out = torch.empty(batch, numel, dtype=dtype, device=operands.x0.device)
    timesteps = operands.timesteps if draw is None else torch.empty_like(operands.sample_ids)
    assert timesteps is not None
    if out.numel():
        structs = operands_struct(CUDA, operands), draw_struct(CUDA, draw, timesteps)
        with torch.cuda.device(out.device):
            load(CUDA).noise(*structs, number_types(CUDA)[dtype], out.data_ptr(), stream_of(out))
    return out, timesteps
