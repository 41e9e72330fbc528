"""Arrays on disk: npy (memory-mapped), npz, safetensors and pt files, and folders of npy shards. Never a pickle."""

from pathlib import Path
from typing import Any

import numpy as np

from memfast.data.memory import from_array
from memfast.data.shards import open_shards
from memfast.data.source import Source
from memfast.foundation.errors import InputError, first_line

DATA_KEYS = ("x_train", "x", "images", "samples", "data", "arr_0")
LABEL_KEYS = {"x_train": "y_train", "x_test": "y_test", "x": "y", "images": "labels", "samples": "labels"}


def matches(path: Path) -> bool:
    """Whether ``path`` is an array file, or a folder that holds npy shards and no images."""
    if path.is_dir():
        return any(path.glob("*.npy"))
    return path.suffix.lower() in (".npy", ".npz", ".safetensors", ".pt")


def read(path: Path, *, part: str | None = None, **_: Any) -> Source:
    """The array of a file.

    Args:
        path: the file.
        part: which array of a file that holds several; without it the only one, or ``x_train``, ``x``, ``images``,
            ``samples``, ``data``, ``arr_0``.

    Raises:
        InputError: damaged file, objects that would need a pickle, no such array, or an array that is no data.
    """
    try:
        if part is not None and (path.is_dir() or path.suffix.lower() == ".npy"):
            raise InputError(f"{path}::{part}", expected="::NAME only where several arrays are", received=f"::{part}")
        if path.is_dir():
            return open_shards(path)
        if path.suffix.lower() == ".npy":
            return from_array(np.load(path, mmap_mode="r", allow_pickle=False), name=str(path))
        named = _READERS[path.suffix.lower()](path)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            str(path), expected="a readable array file without pickles", received=first_line(error)
        ) from error
    key = _choose(path, named, part)
    label_key = LABEL_KEYS.get(key, "labels")
    labels = named[label_key] if label_key in named and label_key != key else None
    names = named.get("name", named.get("names")) if key in ("x", "images", "samples") else None
    name = f"{path}[{key}]" if len(named) > 1 else str(path)
    return from_array(named[key], name=name, labels=labels, names=None if names is None else names.tolist())


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.torch import load_file

    return {key: _numpy(tensor) for key, tensor in load_file(path).items()}


def _read_pt(path: Path) -> dict[str, np.ndarray]:
    import torch

    # weights_only reads tensors and plain containers and refuses every other object.
    content = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, torch.Tensor):
        content = {"x": content}
    if not isinstance(content, dict):
        raise ValueError(f"a {type(content).__name__}, neither a tensor nor a dictionary of tensors")
    return {str(key): _numpy(value) for key, value in content.items() if isinstance(value, torch.Tensor)}


_READERS = {".npz": _read_npz, ".safetensors": _read_safetensors, ".pt": _read_pt}


def _numpy(tensor: Any) -> np.ndarray:
    import torch

    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _choose(path: Path, named: dict[str, np.ndarray], wanted: str | None) -> str:
    have = ", ".join(f"{key} {list(value.shape)}" for key, value in named.items()) or "none"
    if wanted is not None:
        if wanted in named:
            return wanted
        raise InputError(str(path), expected=f"an array named {wanted!r}", received=have)
    if len(named) == 1:
        return next(iter(named))
    for key in DATA_KEYS:
        if key in named:
            return key
    raise InputError(
        str(path), expected=f"one array, or one named {', '.join(DATA_KEYS)}", received=have,
        do="Name the array: PATH::NAME.",
    )  # fmt: skip
