"""The compiled module, imported when it is first needed, and how it names number types."""

from types import ModuleType

import torch

# The order of `enum class Number` in csrc/cpu/number_types.h.
NUMBERS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.uint8: 3}

_module: ModuleType | None = None


def kernels() -> ModuleType:
    """``memfast._C``."""
    global _module
    if _module is None:
        import memfast._C

        _module = memfast._C
    return _module
