"""The CUDA C++ backend: built with MEMFAST_BUILD=cuda for sm_80 and sm_90, launched on PyTorch's current stream."""

import importlib
import importlib.util

_OPS = ("philox", "standard_normal", "draw_timesteps", "noise", "loss", "gather_noise", "gather_loss")
OLDEST_CAPABILITY = (8, 0)
__all__ = [*_OPS, "why_unavailable"]


def why_unavailable() -> str | None:
    """None where the backend can run, otherwise the reason."""
    if importlib.util.find_spec("memfast._C_cuda") is None:
        return "memfast was built without its CUDA kernels: install with MEMFAST_BUILD=cuda where nvcc is on the PATH"
    import torch

    if not torch.cuda.is_available():
        return "no NVIDIA GPU is visible to PyTorch"
    capability = torch.cuda.get_device_capability()
    if capability < OLDEST_CAPABILITY:
        return f"compute capability {capability[0]}.{capability[1]} is older than 8.0"
    try:
        importlib.import_module("memfast._C_cuda")
    except ImportError as error:
        return f"memfast._C_cuda cannot be loaded: {error}"
    return None


def __getattr__(name: str) -> object:
    if name in _OPS:
        return getattr(importlib.import_module(f"{__name__}.launch"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
