"""The loss on CUDA, from tensors or a uint8 data set. Signature: ``memfast.ops.contract``."""

import torch

from memfast.ops.compiled import CUDA, address, load, number_types, operands_struct
from memfast.ops.cuda.random import check_grid, stream_of
from memfast.ops.operands import Operands


def loss(
    prediction: torch.Tensor, operands: Operands, mean: bool, gradient_scale: float | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(loss float32 ``[B]`` or scalar, gradient or None)."""
    batch, numel = prediction.shape
    blocks = check_grid("prediction", batch, numel, prediction.dtype)
    value = torch.empty(() if mean else (batch,), dtype=torch.float32, device=prediction.device)
    gradient = None if gradient_scale is None else torch.empty_like(prediction)
    if not prediction.numel():
        return value.zero_(), gradient
    partial = torch.empty(batch * blocks, dtype=torch.float32, device=prediction.device)
    with torch.cuda.device(prediction.device):
        load(CUDA).loss(
            operands_struct(CUDA, operands), address(prediction, "prediction"), number_types(CUDA)[prediction.dtype],
            mean, 1.0 if gradient_scale is None else gradient_scale, 0 if gradient is None else gradient.data_ptr(),
            partial.data_ptr(), value.data_ptr(), stream_of(prediction),
        )  # fmt: skip
    return value, gradient
