"""mean of (k_p * prediction - (k_x * x0 + k_f * fixed + k_n * noise))**2, and its gradient."""

import torch

from memfast.ops.checks import check_values
from memfast.ops.reference.noise import both_noises, combine, rows


def loss(
    prediction: torch.Tensor,
    x0: torch.Tensor,
    table: torch.Tensor,
    timesteps: torch.Tensor,
    sample_ids: torch.Tensor,
    fixed_ids: torch.Tensor | None,
    key: torch.Tensor,
    mean: bool,
    gradient_scale: float | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(loss float32 ``[B]`` or scalar, gradient ``[B, D]`` in prediction's dtype or None)."""
    if x0.device.type == "cpu":
        check_values(key, table, timesteps, sample_ids, fixed_ids)
    k_p, k_x, k_f, k_n = rows(table, timesteps)[3:]
    fresh, fixed = both_noises(x0, sample_ids, fixed_ids, key)
    residual = k_p * prediction.to(torch.float32) - combine(x0, fixed, fresh, k_x, k_f, k_n)
    per_sample = (residual * residual).double().sum(1) / max(1, residual.shape[1])
    value = per_sample.sum() / max(1, len(per_sample)) if mean else per_sample
    if gradient_scale is None:
        return value.float(), None
    coefficient = (k_p.double() * gradient_scale).float()
    return value.float(), (coefficient * residual).to(prediction.dtype)
