"""The loss by the C++ kernels, from tensors or a uint8 data set. Signature: ``memfast.ops.contract``."""

import torch

from memfast.ops.checks import check_values
from memfast.ops.compiled import CPU, address, load, number_types, operands_struct
from memfast.ops.operands import Operands


def loss(
    prediction: torch.Tensor, operands: Operands, mean: bool, gradient_scale: float | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(loss float32 ``[B]`` or scalar, gradient ``[B, D]`` in prediction's dtype or None)."""
    gradient = None if gradient_scale is None else torch.empty_like(prediction)
    value = torch.empty(() if mean else (prediction.shape[0],), dtype=torch.float32, device="cpu")
    bad = load(CPU).loss(
        operands_struct(CPU, operands), address(prediction, "prediction"), number_types(CPU)[prediction.dtype], mean,
        gradient_scale or 0.0, 0 if gradient is None else gradient.data_ptr(), value.data_ptr(),
        torch.get_num_threads(),
    )  # fmt: skip
    if bad:
        check_values(operands)
    return value, gradient
