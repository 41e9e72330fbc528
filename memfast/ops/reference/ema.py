"""Moving averages, one tensor after another."""

import torch

from memfast.ops.arithmetic import ieee_arithmetic


def ema(parameters: list[torch.Tensor], averages: list[list[torch.Tensor]], decays: torch.Tensor) -> None:
    """averages[k][i] += (1 - decays[k]) * (parameters[i] - averages[k][i]), in place; each step rounded to float32."""
    with ieee_arithmetic(parameters[0].device):
        for weight, tensors in zip((1.0 - decays).to(torch.float32), averages, strict=True):
            for parameter, average in zip(parameters, tensors, strict=True):
                average += weight.to(average.device) * (parameter.to(torch.float32) - average)
