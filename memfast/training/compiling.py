"""Whether to compile the forward pass, and how."""

from typing import cast

import torch
from torch import nn

from memfast.foundation.errors import InputError

# Compilation takes some seconds to a minute: a run shorter than this on a GPU would not win them back.
LEAST_STEPS_TO_COMPILE = 2000


def choose_compile(wanted: bool | str, device: torch.device, steps: int) -> bool:
    """Whether to compile.

    ``"auto"`` compiles on a GPU for runs of at least ``LEAST_STEPS_TO_COMPILE`` steps, never on a CPU: a rule of the
    arguments alone, because a choice by the clock would make two runs of one seed differ in the last bits.

    Raises:
        InputError: ``wanted`` is neither a bool nor ``"auto"``.
    """
    if isinstance(wanted, bool):
        return wanted
    if wanted != "auto":
        raise InputError("compile", expected="True, False or 'auto'", received=repr(wanted))
    return device.type == "cuda" and steps >= LEAST_STEPS_TO_COMPILE


def compiled(module: nn.Module) -> nn.Module:
    """``module`` compiled for one batch shape; the parameters stay those of ``module``."""
    return cast(nn.Module, torch.compile(module, dynamic=False))
