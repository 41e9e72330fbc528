"""mean of (k_p * prediction - (k_x * x0 + k_f * fixed + k_n * noise))**2, and its gradient."""

import torch

from memfast.ops.arithmetic import ieee_arithmetic
from memfast.ops.checks import check_values
from memfast.ops.operands import Operands
from memfast.ops.reference.noise import coefficients, combine


def loss(
    prediction: torch.Tensor, operands: Operands, mean: bool, gradient_scale: float | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(loss float32 ``[B]`` or scalar, gradient ``[B, D]`` in prediction's dtype or None)."""
    if prediction.device.type == "cpu":
        check_values(operands)
    with ieee_arithmetic(prediction.device):
        k_p, k_x, k_f, k_n = coefficients(operands)[3:]
        residual = k_p * prediction.to(torch.float32) - combine(operands, k_x, k_f, k_n)
        per_sample = (residual * residual).double().sum(1) / max(1, residual.shape[1])
        value = (per_sample.sum() / max(1, len(per_sample)) if mean else per_sample).float()
        if gradient_scale is None:
            return value, None
        coefficient = (k_p.double() * gradient_scale).float()
        return value, (coefficient * residual).to(prediction.dtype)
