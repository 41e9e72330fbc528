"""The CUDA C++ backend: built with MEMFAST_BUILD=cuda for sm_80 and sm_90, launched on PyTorch's current stream.

Nothing here reads a value from the device, so every op can be captured in a CUDA graph. Averages and searches have no
kernels of their own here: on a GPU those of Triton serve them.
"""

import importlib.util

OLDEST_CAPABILITY = (8, 0)
__all__ = ["why_unavailable"]


def why_unavailable() -> str | None:
    """None where the backend can run, otherwise the reason."""
    from memfast.ops import compiled

    if importlib.util.find_spec(compiled.CUDA) is None:
        return "memfast was built without its CUDA kernels: install with MEMFAST_BUILD=cuda where nvcc is on the PATH"
    import torch

    if not torch.cuda.is_available():
        return "no NVIDIA GPU is visible to PyTorch"
    capability = torch.cuda.get_device_capability()
    if capability < OLDEST_CAPABILITY:
        return f"compute capability {capability[0]}.{capability[1]} is older than 8.0"
    try:
        compiled.load(compiled.CUDA)
    except ImportError as error:
        return f"{compiled.CUDA} cannot be loaded: {error}"
    return None
