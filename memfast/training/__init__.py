"""The training loop, its checkpoints and log, the averages of its weights, and what may run between steps.

Names are loaded on first use, so that the options of a run can be read without PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

_NAMES = {
    "Canaries": "memfast.data.canaries",
    "ConstantDecay": "memfast.training.ema",
    "Control": "memfast.training.control",
    "Hook": "memfast.training.hooks",
    "LossGate": "memfast.training.skipping",
    "Monitor": "memfast.training.monitor",
    "NotFiniteError": "memfast.training.log",
    "PowerFunction": "memfast.training.ema",
    "RunState": "memfast.training.state",
    "SampleOrder": "memfast.training.data",
    "Trainer": "memfast.training.trainer",
    "TrainingConfig": "memfast.training.config",
    "TrainingResult": "memfast.training.loop",
    "choose_compile": "memfast.training.forward",
    "epoch_order": "memfast.training.data",
    "read_log": "memfast.training.log",
}

__all__ = [
    "Canaries",
    "ConstantDecay",
    "Control",
    "Hook",
    "LossGate",
    "Monitor",
    "NotFiniteError",
    "PowerFunction",
    "RunState",
    "SampleOrder",
    "Trainer",
    "TrainingConfig",
    "TrainingResult",
    "choose_compile",
    "epoch_order",
    "read_log",
]

if TYPE_CHECKING:
    from memfast.data.canaries import Canaries
    from memfast.training.config import TrainingConfig
    from memfast.training.control import Control
    from memfast.training.data import SampleOrder, epoch_order
    from memfast.training.ema import ConstantDecay, PowerFunction
    from memfast.training.forward import choose_compile
    from memfast.training.hooks import Hook
    from memfast.training.log import NotFiniteError, read_log
    from memfast.training.loop import TrainingResult
    from memfast.training.monitor import Monitor
    from memfast.training.skipping import LossGate
    from memfast.training.state import RunState
    from memfast.training.trainer import Trainer


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
