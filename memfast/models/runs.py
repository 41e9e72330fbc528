"""A training run's folder read back, ready to sample from."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import CheckpointError, InputError, MemfastError, MissingPackageError, first_line
from memfast.models.build import build
from memfast.models.checkpoints import (
    RUN_FILE,
    Checkpoint,
    checkpoint_folder,
    newest_checkpoint,
    read_checkpoint,
    read_run,
)
from memfast.models.items import ItemFormat
from memfast.models.weights import choose_weights, load_state
from memfast.schedules import ContinuousSchedule, Schedule, schedule_from_dict
from memfast.schedules.predictions import check_prediction_type

Value = TypeVar("Value")


@dataclass
class Run:
    """A trained run.

    Attributes:
        folder: the run's folder.
        model: the network with the chosen weights, in evaluation mode.
        schedule: the noise schedule it was trained with.
        prediction_type: what the network predicts.
        sigma_data: the data's standard deviation, for ``prediction_type="edm"``.
        format: the form of its items; ``format.item_shape`` is what a sampler makes, ``format.to_data`` turns samples
            into items like the training data (uint8 images, float signals).
        num_classes: the number of classes, or None.
        step: the training steps behind these weights.
        weights: which weights: ``"model"`` or an EMA's name.
        settings: the whole ``run.json``.
    """

    folder: Path
    model: nn.Module
    schedule: Schedule | ContinuousSchedule
    prediction_type: str
    sigma_data: float
    format: ItemFormat
    num_classes: int | None
    step: int
    weights: str
    settings: dict[str, Any]

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one item in front of the network, ``(C, H, W)`` or ``(C, L)``."""
        return self.format.item_shape

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The least and greatest value of items in front of the network, or None."""
        return self.format.value_range

    @property
    def kind(self) -> str:
        """``"image"``, ``"signal"`` or ``"array"``."""
        return self.format.kind

    def to_data(self, samples: torch.Tensor) -> np.ndarray:
        """Samples ``[B, *item_shape]`` as items like the training data."""
        return self.format.to_data(samples)


def load_run(
    folder: str | os.PathLike[str],
    *,
    model: nn.Module | None = None,
    weights: str | None = None,
    checkpoint: str | None = None,
    device: str | torch.device = "cpu",
) -> Run:
    """Read a training run's folder.

    Args:
        folder: what ``Trainer(out=...)`` wrote.
        model: the network, for a run whose network was not built from a configuration.
        weights: ``"model"`` or the name of an EMA; by default the run's first EMA, or the model where it has none.
        checkpoint: a folder's name under ``checkpoints``, for example ``"within-budget"``; by default the newest step.
        device: where to put the network.

    Raises:
        InputError: the folder holds no run, or the weights have no such name.
        CheckpointError: its ``run.json`` is damaged, no checkpoint in it is whole, or the weights do not fit ``model``.
    """
    folder = Path(folder)
    if not (folder / RUN_FILE).is_file():
        raise InputError(str(folder), expected=f"a run's folder with {RUN_FILE}", received="no such file")
    settings = read_run(folder)
    found = _checkpoint(folder, checkpoint)
    weights, state = choose_weights(found, weights)
    if model is None:
        if settings["model"] is None:
            raise InputError("model", expected="the network: this run has no configuration of it", received="None")
        model = _read(folder, lambda: build(settings["model"]))
    load_state(model, state, str(found.folder))
    return Run(
        folder=folder,
        model=model.to(device).eval(),
        schedule=_read(folder, lambda: schedule_from_dict(settings["schedule"])),
        prediction_type=_read(folder, lambda: _prediction_type(settings)),
        sigma_data=_read(folder, lambda: finite_number("sigma_data", settings["sigma_data"], above=0)),
        format=_read(folder, lambda: ItemFormat.from_dict(settings["data"]["format"])),
        num_classes=settings["data"]["num_classes"],
        step=found.step,
        weights=weights,
        settings=settings,
    )


def _read(folder: Path, part: Callable[[], Value]) -> Value:
    """A part of ``run.json`` as what it stands for."""
    try:
        return part()
    except MissingPackageError:
        raise
    except (MemfastError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{folder / RUN_FILE}: damaged, or of another version ({first_line(error)}).") from error


def _prediction_type(settings: dict[str, Any]) -> str:
    check_prediction_type(settings["prediction_type"])
    return settings["prediction_type"]


def _checkpoint(folder: Path, name: str | None) -> Checkpoint:
    if name is not None:
        return read_checkpoint(checkpoint_folder(folder, name))
    found = newest_checkpoint(folder)
    if found is None:
        raise CheckpointError(f"{folder}: no checkpoint has been written yet.")
    return found
