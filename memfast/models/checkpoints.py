"""The folder of a run, read: its description, its checkpoints, and whether each is whole.

``RUN/run.json`` says what the run is. ``RUN/checkpoints/step-00001000/`` holds ``state.json`` and safetensors files;
``state.json`` names every other file with its size and SHA-256, and is part of the folder from the moment the folder
has its name. Both JSON files carry a checksum of their own content, and the run's id, so that files of two runs that
were mixed are told apart.
"""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from memfast.foundation.errors import CheckpointError, first_line
from memfast.foundation.values import file_hash, plain
from memfast.runtime.files import replaced_folder

RUN_FILE = "run.json"
LOG_FILE = "log.jsonl"
CHECKPOINTS = "checkpoints"
STATE_FILE = "state.json"
MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
OBJECTIVE_FILE = "objective.safetensors"
RUN_ID, CHECKSUM = "run", "checksum"
_STEP_FOLDER = re.compile(r"step-(\d{1,15})")
# What every run says of itself, and what each entry may be.
_RUN_FIELDS: dict[str, tuple[type, ...]] = {
    "model": (dict, type(None)), "objective": (dict,), "schedule": (dict,), "prediction_type": (str,),
    "sigma_data": (int, float), "data": (dict,), "training": (dict,),
}  # fmt: skip
_DATA_FIELDS: dict[str, tuple[type, ...]] = {"format": (dict,), "num_classes": (int, type(None))}


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
            CheckpointError: it has no such file, or the file cannot be read.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if file not in self.state["files"]:
            raise CheckpointError(f"{self.folder}: it holds no {file}.")
        try:
            return load_file(self.folder / file)
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"{self.folder / file}: not a whole safetensors file ({first_line(error)})."
            ) from error


def step_folders(run: str | os.PathLike[str]) -> list[Path]:
    """The run's numbered checkpoint folders, oldest first, whole or not."""
    folder = Path(run) / CHECKPOINTS
    found = [path for path in folder.iterdir() if _STEP_FOLDER.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def step_folder_name(step: int) -> str:
    """The name of the folder for this step."""
    return f"step-{step:08d}"


def checkpoint_folder(run: str | os.PathLike[str], name: str) -> Path:
    """The folder of the checkpoint ``name``, also where a process was killed while it replaced it by a newer one."""
    folder = Path(run) / CHECKPOINTS / name
    replaced = replaced_folder(folder)
    return replaced if replaced.is_dir() and not folder.exists() else folder


def ema_file(name: str) -> str:
    """The file of an EMA's weights."""
    return f"ema-{name}.safetensors"


def read_checkpoint(folder: str | os.PathLike[str]) -> Checkpoint:
    """Read and verify one checkpoint folder.

    Raises:
        CheckpointError: a file is missing, truncated or changed, or belongs to another run.
    """
    folder = Path(folder)
    path = folder / STATE_FILE
    state = _read_signed(path)
    try:
        files = {str(name): (int(one["bytes"]), str(one["sha256"])) for name, one in state["files"].items()}
        valid = isinstance(state["step"], int) and state["step"] >= 0 and all(isinstance(n, str) for n in state["ema"])
        valid = valid and all(Path(name).name == name for name in files)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{path}: damaged ({error!r}).") from error
    if not valid:
        raise CheckpointError(f"{path}: damaged: its step, averages or file names are not what a run writes.")
    for name, (wanted, digest) in files.items():
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"{file}: expected a file of {wanted} bytes, found none.")
        size = file.stat().st_size
        if size != wanted:
            raise CheckpointError(f"{file}: expected {wanted} bytes, found {size}: it is truncated.")
        if file_hash(file) != digest:
            raise CheckpointError(f"{file}: its content differs from its SHA-256 in {STATE_FILE}.")
    run = folder.parent.parent
    if (run / RUN_FILE).is_file() and folder.parent.name == CHECKPOINTS and state.get(RUN_ID) != run_id_of(run):
        raise CheckpointError(f"{folder}: it belongs to another run than {run / RUN_FILE}.")
    return Checkpoint(folder, state)


def read_run(run: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a run's ``run.json``.

    Raises:
        CheckpointError: it is missing or damaged, or does not describe a run.
    """
    path = Path(run) / RUN_FILE
    content = _read_signed(path)
    for fields, within in ((_RUN_FIELDS, content), (_DATA_FIELDS, content.get("data"))):
        wrong = [n for n, kinds in fields.items() if not isinstance(within, dict) or _not_of(within, n, kinds)]
        if wrong:
            raise CheckpointError(f"{path}: not a run's, or damaged: it has no usable {', '.join(map(repr, wrong))}.")
    return content


def run_id_of(run: str | os.PathLike[str]) -> str | None:
    """The id of the run in this folder; None where it has none or cannot be read."""
    try:
        content = json.loads((Path(run) / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    found = content.get(RUN_ID) if isinstance(content, dict) else None
    return found if isinstance(found, str) else None


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


def signed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values with the checksum that ``read_run`` and ``read_checkpoint`` verify."""
    values = {name: value for name, value in plain(content).items() if name != CHECKSUM}
    return {**values, CHECKSUM: _checksum(values)}


def _read_signed(path: Path) -> dict[str, Any]:
    """A JSON object whose checksum, where it has one, fits its content."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: missing or damaged ({error}).") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: damaged: expected a JSON object, found {type(content).__name__}.")
    try:
        # Files of earlier versions have no checksum.
        whole = CHECKSUM not in content or content[CHECKSUM] == _checksum(content)
    except (ValueError, RecursionError):
        whole = False
    if not whole:
        raise CheckpointError(f"{path}: damaged or edited: its content differs from its checksum.")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    values = {name: value for name, value in content.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _not_of(content: Mapping[str, Any], name: str, kinds: tuple[type, ...]) -> bool:
    return name not in content or not isinstance(content[name], kinds) or isinstance(content[name], bool)
