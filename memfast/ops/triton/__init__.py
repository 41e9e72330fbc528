"""The Triton backend: NVIDIA GPUs from sm_80, and its interpreter on CPU tensors for tests.

Triton is imported with the first op that is asked for, never before; its variable TRITON_INTERPRET must be set by then.
"""

import importlib.util
import os

OLDEST_CAPABILITY = (8, 0)
__all__ = ["why_unavailable"]


def why_unavailable() -> str | None:
    """None where the backend can run, otherwise the reason."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed: pip install 'memfast[gpu]'"
    if os.environ.get("TRITON_INTERPRET", "0") == "1":
        return None
    import torch

    if not torch.cuda.is_available():
        return "no NVIDIA GPU is visible to PyTorch (on a CPU it runs only in its interpreter, TRITON_INTERPRET=1)"
    if torch.version.cuda is None:
        return "this PyTorch is not built for CUDA"
    capability = torch.cuda.get_device_capability()
    if capability < OLDEST_CAPABILITY:
        return f"compute capability {capability[0]}.{capability[1]} is older than 8.0"
    return None
