"""x_in = a_x * x0 + a_f * fixed + a_n * noise."""

import torch

from memfast.ops.addresses import STREAMS
from memfast.ops.checks import check_values
from memfast.ops.reference.random import normals


def noise(
    x0: torch.Tensor,
    table: torch.Tensor,
    timesteps: torch.Tensor,
    sample_ids: torch.Tensor,
    fixed_ids: torch.Tensor | None,
    key: torch.Tensor,
) -> torch.Tensor:
    """x_in ``[B, D]`` in x0's dtype."""
    if x0.device.type == "cpu":
        check_values(key, table, timesteps, sample_ids, fixed_ids)
    a_x, a_f, a_n = rows(table, timesteps)[:3]
    fresh, fixed = both_noises(x0, sample_ids, fixed_ids, key)
    return combine(x0, fixed, fresh, a_x, a_f, a_n).to(x0.dtype)


def rows(table: torch.Tensor, timesteps: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The seven coefficients of each sample, ``[B, 1]`` each; NaN where a row number is out of range (GPU)."""
    known = (timesteps >= 0) & (timesteps < len(table))
    picked = table[torch.where(known, timesteps, 0)] if len(table) else table.new_zeros(len(timesteps), 7)
    return torch.where(known[:, None], picked, float("nan"))[:, :, None].unbind(1)


def both_noises(
    x0: torch.Tensor, sample_ids: torch.Tensor, fixed_ids: torch.Tensor | None, key: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Fresh noise of this step and, where asked for, the fixed noise, whose step is 0."""
    fresh = normals(sample_ids, x0.shape[1], key, STREAMS["noise"])
    if fixed_ids is None:
        return fresh, None
    return fresh, normals(fixed_ids, x0.shape[1], torch.stack((key[0], torch.zeros_like(key[0]))), STREAMS["fixed"])


def combine(
    x0: torch.Tensor,
    fixed: torch.Tensor | None,
    fresh: torch.Tensor,
    c_x: torch.Tensor,
    c_f: torch.Tensor,
    c_n: torch.Tensor,
) -> torch.Tensor:
    """(c_x * x0 + c_f * fixed) + c_n * fresh in float32, each step rounded."""
    value = c_x * x0.to(torch.float32)
    if fixed is not None:
        value = value + c_f * fixed
    return value + c_n * fresh
