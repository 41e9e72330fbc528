"""Weights to start from: a run of ours, a diffusers folder, or one safetensors file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from memfast.foundation.errors import CheckpointError, InputError, first_line
from memfast.models.build import build
from memfast.models.checkpoints import (
    MODEL_FILE,
    RUN_FILE,
    STATE_FILE,
    Checkpoint,
    ema_file,
    newest_checkpoint,
    read_checkpoint,
    read_run,
)
from memfast.runtime.files import read_json

UNET_2D = "UNet2DModel"
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"


def load_weights(model: nn.Module, source: str | os.PathLike[str], *, weights: str | None = None) -> nn.Module:
    """Load weights into ``model``, in place; returns it.

    Args:
        model: the network.
        source: a run's folder, one of its checkpoint folders, a diffusers model folder (or a pipeline's folder with
            ``unet/``), or a ``.safetensors`` file.
        weights: for our own: ``"model"`` or an EMA's name; by default the first EMA.

    Raises:
        InputError: ``source`` is none of these.
        CheckpointError: the weights do not fit: the text names the first tensors that differ.
    """
    path = Path(source)
    if path.is_file() and path.suffix == ".safetensors":
        state = _read(path)
    elif (path / RUN_FILE).is_file() or (path / STATE_FILE).is_file():
        state = _ours(path, weights)
    elif (folder := _diffusers_folder(path)) is not None:
        state = _read(folder / DIFFUSERS_WEIGHTS)
    else:
        raise InputError(
            str(source),
            expected="a run's folder, a diffusers folder with config.json and "
            f"{DIFFUSERS_WEIGHTS}, or a .safetensors file",
            received="none of these" if path.exists() else "no such path",
        )
    inner = getattr(model, "network", None)
    if isinstance(inner, nn.Module) and not any(name.startswith("network.") for name in state):
        model_state = inner
    else:
        model_state = model
    load_state(model_state, state, str(source))
    return model


def from_diffusers(folder: str | os.PathLike[str]) -> nn.Module:
    """The ``UNet2DModel`` in a diffusers folder, with its weights, as a network of ours.

    Raises:
        InputError: the folder holds no ``UNet2DModel``.
    """
    found = _diffusers_folder(Path(folder))
    config = _read_config(found) if found is not None else {}
    if config.get("_class_name") != UNET_2D:
        raise InputError(
            str(folder), expected=f"a diffusers folder with a {UNET_2D}", received=str(config.get("_class_name"))
        )
    return load_weights(build(_unet2d(config)), folder)


def config_of(source: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The configuration for ``build`` of the network whose weights lie at ``source``, or None where nothing tells it.

    Args:
        source: what ``load_weights`` reads. A run's folder and a diffusers folder with a ``UNet2DModel`` tell it.
    """
    path = Path(source)
    run = path if (path / RUN_FILE).is_file() else path.parent.parent
    if run == path or (path / STATE_FILE).is_file():
        return read_run(run)["model"] if (run / RUN_FILE).is_file() else None
    folder = _diffusers_folder(path)
    config = {} if folder is None else _read_config(folder)
    return _unet2d(config) if config.get("_class_name") == UNET_2D else None


def load_state(model: nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> None:
    """Load ``state`` into ``model`` if every name and shape fits, else raise and change nothing."""
    own = model.state_dict()
    missing, extra = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    shapes = [name for name in own if name in state and own[name].shape != state[name].shape]
    if missing or extra or shapes:
        parts = [f"it lacks {', '.join(missing[:3])}"] if missing else []
        parts += [f"it has also {', '.join(extra[:3])}"] if extra else []
        parts += [f"{name} is {list(state[name].shape)}, the model's is {list(own[name].shape)}" for name in shapes[:3]]
        raise CheckpointError(f"{origin}: its weights are not this model's: {'; '.join(parts)}.")
    model.load_state_dict(state)


def choose_weights(found: Checkpoint, weights: str | None) -> tuple[str, dict[str, torch.Tensor]]:
    """The name and the state of the wanted weights: an EMA holds parameters only, buffers are the model's own."""
    names = list(found.state["ema"])
    chosen = weights or (names[0] if names else "model")
    if chosen not in ("model", *names):
        raise InputError("weights", expected="one of " + ", ".join(["model", *names]), received=repr(chosen))
    state = found.tensors(MODEL_FILE)
    return chosen, state if chosen == "model" else {**state, **found.tensors(ema_file(chosen))}


def _ours(path: Path, weights: str | None) -> dict[str, torch.Tensor]:
    found = read_checkpoint(path) if (path / STATE_FILE).is_file() else newest_checkpoint(path)
    if found is None:
        raise CheckpointError(f"{path}: no checkpoint has been written yet.")
    return choose_weights(found, weights)[1]


def _diffusers_folder(path: Path) -> Path | None:
    for folder in (path, path / "unet"):
        if (folder / "config.json").is_file() and (folder / DIFFUSERS_WEIGHTS).is_file():
            return folder
    return None


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / 'config.json'}: damaged ({first_line(error)}).") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder / 'config.json'}: damaged: expected a JSON object.")
    return config


def _unet2d(config: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: value for name, value in config.items() if not name.startswith("_")}
    return {"kind": "diffusers_unet2d", "options": options}


def _read(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}).") from error
