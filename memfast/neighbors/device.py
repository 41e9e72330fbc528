"""Where blocks are searched: on a GPU where one is there and has a kernel for them, on the CPU otherwise."""

from typing import Any

import numpy as np
import torch

from memfast.foundation.errors import BackendUnavailableError
from memfast.ops.registry import implementation

CPU = torch.device("cpu")


def search_device(integers: bool, backend: str) -> torch.device:
    """The device whose kernels serve a search.

    Args:
        integers: both sets are uint8; the certified float search runs on the CPU.
        backend: ``"auto"`` or a backend's name.
    """
    if not (integers and torch.cuda.is_available()):
        return CPU
    device = torch.device("cuda", torch.cuda.current_device())
    try:
        kernel = implementation("nearest", device, backend)
    except BackendUnavailableError:
        return CPU
    return CPU if kernel.__module__.startswith("memfast.ops.reference") else device


def to_device(block: np.ndarray, device: torch.device) -> Any:
    """The block itself for the CPU, otherwise a tensor on the device, by way of pinned memory."""
    if device.type == "cpu":
        return block
    staged = torch.empty(block.shape, dtype=torch.uint8, pin_memory=True)
    staged.numpy()[...] = block
    return staged.to(device)
