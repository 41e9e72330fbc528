"""One door to data: whatever the user has becomes a source.

A file format is one module with ``matches(path)`` and ``read(path, **options)``, and one entry in FORMATS.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from memfast.data import archives, arrays, folders, kept, signals, tables
from memfast.data.images import MODES, ImageSource, is_image_name
from memfast.data.memory import from_array, from_dataset, from_tensor
from memfast.data.source import Source, is_source
from memfast.foundation.errors import InputError

# In order: the first that matches reads. Folders of images come last: they match any folder.
FORMATS = (kept, tables, arrays, archives, signals, folders)


def open_source(
    data: Any,
    *,
    skip_bad: bool = False,
    mode: str = "auto",
    image_size: int | None = None,
    name: str | None = None,
    progress: bool = False,
) -> Source:
    """Turn what the user has into a :class:`~memfast.data.Source`.

    Args:
        data: an array ``[N, ...]`` (uint8 images channels last, or floats), a tensor, a torch or Hugging Face data set,
            a list of images, a source, or a path: a folder of images, npy, npz, pt, safetensors, a folder of npy
            shards, zip, tar or a folder of tar shards (webdataset), parquet, a saved Hugging Face data set, UCR text.
            ``PATH::NAME`` names one array or column of a file that has several.
        skip_bad: leave unreadable images out and count them in ``.skipped`` instead of raising.
        mode: ``"L"``, ``"RGB"`` or ``"auto"``, for files of images.
        image_size: side in pixels to bring images to (centre crop, Lanczos); None refuses mixed sizes.
        name: what to call the data in messages and reports.
        progress: show progress while reading.

    Raises:
        InputError: nothing there, or nothing that can be read; the item is named.

    >>> open_source(np.zeros((2, 4, 4), np.uint8)).item_shape
    (4, 4)
    """
    if mode not in MODES:
        raise InputError("mode", expected="'auto', 'L' or 'RGB'", received=repr(mode))
    if is_source(data):
        return data
    if isinstance(data, (str, os.PathLike)):
        source = _open_path(str(data), skip_bad=skip_bad, mode=mode, image_size=image_size, progress=progress)
    else:
        source = _open_object(data, name)
    if not isinstance(source, ImageSource):
        _check_needs_no_conversion(source, mode, image_size)
    return source


def _open_object(data: Any, name: str | None) -> Source:
    if isinstance(data, np.ndarray):
        return from_array(data, name=name or "array")
    if type(data).__module__.split(".")[0] == "torch" and hasattr(data, "detach"):
        return from_tensor(data, name=name or "tensor")
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return from_dataset(data, name=name)
    raise InputError(name or "data", expected="an array, a tensor, a data set or a path", received=type(data).__name__)


def _open_path(text: str, **options: Any) -> Source:
    path, _, part = text.partition("::")
    if not path:
        raise InputError("data", expected="a path", received="an empty one")
    location = Path(path).expanduser()
    if not location.exists():
        raise InputError(str(location), expected="a file or folder", received="nothing there", do="Check the path.")
    if location.is_dir() and not any(location.iterdir()):
        raise InputError(str(location), expected="a folder with data", received="an empty folder")
    for reader in FORMATS:
        if reader.matches(location):
            if part and reader not in (arrays, tables):
                raise InputError(text, expected="::NAME only after files of arrays or tables", received=f"::{part}")
            if location.is_dir() and reader not in (folders, kept):
                _check_no_images(location)
            return reader.read(location, part=part or None, **options)
    raise InputError(
        str(location), expected="a folder of images, npy, npz, pt, safetensors, zip, tar, parquet or UCR text",
        received=f"a {location.suffix or 'nameless'} file",
    )  # fmt: skip


def _check_needs_no_conversion(source: Source, mode: str, image_size: int | None) -> None:
    """Raise where a size or mode was asked for that an array does not have: arrays are taken as they are."""
    shape = source.item_shape
    do = "Convert the array first, or leave the option out: only files of images are converted."
    if image_size is not None and shape[:2] != (image_size, image_size):
        raise InputError(
            f"{source.name}: image_size (--image-size)", expected=f"items of {image_size}x{image_size}",
            received=f"an array of items {list(shape)}", do=do,
        )  # fmt: skip
    if mode != "auto" and len(shape) != {"L": 2, "RGB": 3}[mode]:
        raise InputError(
            f"{source.name}: mode (--mode)", expected=f"images of mode {mode}",
            received=f"an array of items {list(shape)}", do=do,
        )  # fmt: skip


def _check_no_images(folder: Path) -> None:
    """Raise where a folder of arrays or tables holds images too: either could be the data."""
    image = next((file for file in folder.rglob("*") if is_image_name(file.name) and file.is_file()), None)
    if image is not None:
        raise InputError(
            str(folder), expected="images, or arrays or tables", received=f"both, for example {image.name}",
            do="Name the file or the subfolder that holds the data.",
        )  # fmt: skip
