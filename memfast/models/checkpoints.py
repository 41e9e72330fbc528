"""The checkpoint folders of a run: their layout, and which of them is whole.

``RUN/checkpoints/step-00001000/`` holds ``state.json`` and safetensors files; ``state.json`` names every other file
with its size and SHA-256, and is part of the folder from the moment the folder has its name.
"""

import json
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from memfast.foundation.errors import CheckpointError
from memfast.foundation.values import file_hash

RUN_FILE = "run.json"
# What every run says of itself.
RUN_FIELDS = ("model", "objective", "schedule", "prediction_type", "sigma_data", "data", "training")
CHECKPOINTS = "checkpoints"
STATE_FILE = "state.json"
MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
OBJECTIVE_FILE = "objective.safetensors"
_STEP_FOLDER = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """One whole checkpoint.

    Attributes:
        folder: where it lies.
        state: its ``state.json``.
    """

    folder: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """The number of training steps it has seen."""
        return int(self.state["step"])

    def tensors(self, file: str) -> dict[str, torch.Tensor]:
        """The tensors of one of its safetensors files, on the CPU.

        Raises:
            CheckpointError: it has no such file.
        """
        from safetensors.torch import load_file

        if file not in self.state["files"]:
            raise CheckpointError(f"{self.folder}: it holds no {file}.")
        return load_file(self.folder / file)


def step_folders(run: str | os.PathLike[str]) -> list[Path]:
    """The run's numbered checkpoint folders, oldest first, whole or not."""
    folder = Path(run) / CHECKPOINTS
    found = [path for path in folder.iterdir() if _STEP_FOLDER.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def step_folder_name(step: int) -> str:
    """The name of the folder for this step."""
    return f"step-{step:08d}"


def ema_file(name: str) -> str:
    """The file of an EMA's weights."""
    return f"ema-{name}.safetensors"


def read_checkpoint(folder: str | os.PathLike[str]) -> Checkpoint:
    """Read and verify one checkpoint folder.

    Raises:
        CheckpointError: a file is missing, truncated or changed.
    """
    folder = Path(folder)
    try:
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        files = {str(name): (int(one["bytes"]), str(one["sha256"])) for name, one in state["files"].items()}
        int(state["step"]), list(state["ema"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / STATE_FILE}: missing or damaged ({error}).") from error
    for name, (wanted, digest) in files.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path}: expected a file of {wanted} bytes, found none.")
        size = path.stat().st_size
        if size != wanted:
            raise CheckpointError(f"{path}: expected {wanted} bytes, found {size}: it is truncated.")
        if file_hash(path) != digest:
            raise CheckpointError(f"{path}: its content differs from its SHA-256 in {STATE_FILE}.")
    return Checkpoint(folder, state)


def read_run(run: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a run's ``run.json``.

    Raises:
        CheckpointError: it is missing, damaged or no run's.
    """
    path = Path(run) / RUN_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: missing or damaged ({error}).") from error
    missing = [name for name in RUN_FIELDS if not isinstance(content, dict) or name not in content]
    if missing:
        raise CheckpointError(f"{path}: not a run's, or damaged: it has no {', '.join(map(repr, missing))}.")
    return content


def newest_checkpoint(run: str | os.PathLike[str]) -> Checkpoint | None:
    """The newest whole checkpoint of a run, or None where the run has none yet.

    A damaged one is passed over with a warning that names it and the one used instead.

    Raises:
        CheckpointError: checkpoints exist and every one is damaged.
    """
    reasons: list[str] = []
    for folder in reversed(step_folders(run)):
        try:
            checkpoint = read_checkpoint(folder)
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        if reasons:
            warnings.warn(
                f"{' '.join(reasons)} Using the previous checkpoint, {checkpoint.folder}.", RuntimeWarning, stacklevel=2
            )
        return checkpoint
    if reasons:
        raise CheckpointError(f"no whole checkpoint in {Path(run) / CHECKPOINTS}: {' '.join(reasons)}")
    return None
