"""x_in = a_x * x0 + a_f * fixed + a_n * noise, from tensors or a uint8 data set."""

import torch

from memfast.ops.addresses import STREAMS
from memfast.ops.arithmetic import ieee_arithmetic
from memfast.ops.checks import check_values
from memfast.ops.operands import Draw, Operands
from memfast.ops.reference.random import draw_timesteps, normals, words


def noise(operands: Operands, draw: Draw | None, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_in ``[B, D]`` in ``dtype``, timesteps int64 ``[B]``)."""
    if draw is not None:
        operands = operands._replace(timesteps=draw_timesteps(draw, operands.sample_ids, operands.key))
    assert operands.timesteps is not None
    if operands.x0.device.type == "cpu":
        check_values(operands)
    with ieee_arithmetic(operands.x0.device):
        a_x, a_f, a_n = coefficients(operands)[:3]
        return combine(operands, a_x, a_f, a_n).to(dtype), operands.timesteps


def coefficients(operands: Operands) -> tuple[torch.Tensor, ...]:
    """The seven coefficients of each sample, ``[B, 1]`` each; NaN where a row number is out of range (GPU)."""
    table, timesteps = operands.table, operands.timesteps
    assert timesteps is not None
    known = (timesteps >= 0) & (timesteps < len(table))
    picked = table[torch.where(known, timesteps, 0)] if len(table) else table.new_zeros(len(timesteps), 7)
    return torch.where(known[:, None], picked, float("nan"))[:, :, None].unbind(1)


def combine(operands: Operands, c_x: torch.Tensor, c_f: torch.Tensor, c_n: torch.Tensor) -> torch.Tensor:
    """(c_x * x0 + c_f * fixed) + c_n * noise in float32 ``[B, D]``, each step rounded."""
    numel, key = operands.x0.shape[1], operands.key
    value = c_x * clean(operands).to(torch.float32)
    if operands.fixed_ids is not None:
        # The fixed noise's step is 0.
        first = torch.stack((key[0], torch.zeros_like(key[0])))
        value = value + c_f * normals(operands.fixed_ids, numel, first, STREAMS["fixed"])
    return value + c_n * normals(operands.sample_ids, numel, key, STREAMS["noise"])


def clean(operands: Operands) -> torch.Tensor:
    """x0 ``[B, D]``: as given, or rows of the data set as float32, flipped where the augmentation word is odd."""
    if operands.indices is None:
        return operands.x0
    rows = operands.x0[operands.indices]
    if operands.flip_width:
        ids = operands.sample_ids
        word = words(ids, ids.new_zeros(1), operands.key, STREAMS["augmentation"])[:, 0, 0]
        mirrored = rows.view(len(rows), -1, operands.flip_width).flip(-1).reshape(rows.shape)
        rows = torch.where((word & 1 == 1)[:, None], mirrored, rows)
    return (rows.to(torch.float32) * 2 - 255) * torch.tensor(1 / 255, dtype=torch.float32, device=rows.device)
