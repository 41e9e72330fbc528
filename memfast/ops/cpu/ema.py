"""Several moving averages in one pass by the C++ kernel. Signature: ``memfast.ops.contract``."""

import torch

from memfast.ops.compiled import CPU, address, load, number_types


def ema(parameters: list[torch.Tensor], averages: list[list[torch.Tensor]], decays: torch.Tensor) -> None:
    """averages[k][i] += (1 - decays[k]) * (parameters[i] - averages[k][i]), in place."""
    types = number_types(CPU)
    load(CPU).ema(
        [parameter.numel() for parameter in parameters],
        [address(parameter, "parameters") for parameter in parameters],
        [types[parameter.dtype] for parameter in parameters],
        [address(average, "averages") for tensors in zip(*averages, strict=True) for average in tensors],
        (1.0 - decays).tolist(),
        torch.get_num_threads(),
    )
