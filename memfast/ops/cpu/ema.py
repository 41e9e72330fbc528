"""Several moving averages in one pass by the C++ kernel. Signature: ``memfast.ops.contract``."""

import torch

from memfast.ops.cpu.module import NUMBERS, kernels


def ema(parameters: list[torch.Tensor], averages: list[list[torch.Tensor]], decays: torch.Tensor) -> None:
    """averages[k][i] += (1 - decays[k]) * (parameters[i] - averages[k][i]), in place."""
    kernels().ema(
        [parameter.numel() for parameter in parameters],
        [parameter.data_ptr() for parameter in parameters],
        [NUMBERS[parameter.dtype] for parameter in parameters],
        [average.data_ptr() for tensors in zip(*averages, strict=True) for average in tensors],
        (1.0 - decays).tolist(),
        torch.get_num_threads(),
    )
