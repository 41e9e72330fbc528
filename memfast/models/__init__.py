"""Networks for images and signals, and a training run read back."""

from memfast.models.build import KINDS, build, suggest
from memfast.models.checkpoints import Checkpoint, newest_checkpoint, read_checkpoint
from memfast.models.items import ItemFormat
from memfast.models.runs import Run, load_run
from memfast.models.weights import config_of, from_diffusers, load_weights

__all__ = [
    "KINDS",
    "Checkpoint",
    "ItemFormat",
    "Run",
    "build",
    "config_of",
    "from_diffusers",
    "load_run",
    "load_weights",
    "newest_checkpoint",
    "read_checkpoint",
    "suggest",
]
