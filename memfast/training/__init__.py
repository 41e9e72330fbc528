"""The training loop, its checkpoints and log, the averages of its weights, and what may run between steps."""

from memfast.data.canaries import Canaries
from memfast.training.compiling import choose_compile
from memfast.training.control import Control
from memfast.training.ema import ConstantDecay, PowerFunction
from memfast.training.failures import NotFiniteError
from memfast.training.hooks import Hook
from memfast.training.logs import read_log
from memfast.training.loop import TrainingResult
from memfast.training.monitor import Monitor
from memfast.training.order import SampleOrder, epoch_order
from memfast.training.skipping import LossGate
from memfast.training.trainer import Trainer

__all__ = [
    "Canaries",
    "ConstantDecay",
    "Control",
    "Hook",
    "LossGate",
    "Monitor",
    "NotFiniteError",
    "PowerFunction",
    "SampleOrder",
    "Trainer",
    "TrainingResult",
    "choose_compile",
    "epoch_order",
    "read_log",
]
