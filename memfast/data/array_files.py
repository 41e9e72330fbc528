"""The arrays in npy, npz, safetensors and pt files, read one by one on demand. Never a pickle."""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from memfast.data.archive_members import MAX_MEMBER_BYTES, MAX_RATIO
from memfast.data.format import reading
from memfast.data.images import UNREADABLE, new_pixels
from memfast.data.labels import encode_labels
from memfast.data.memory import from_array
from memfast.data.options import ReadingOptions
from memfast.data.source import Source
from memfast.foundation.errors import InputError, first_line

SUFFIXES = (".npy", ".npz", ".safetensors", ".pt")
DATA_KEYS = ("x_train", "x", "images", "samples", "data", "arr_0", "latents", "latent")
RATIO_COUNTS_FROM = 1 << 30
EXPECTED = "a readable array file without pickles"
OTHER_ARRAYS = "other arrays in a file"


# How to read each entry of a file by its name; None for an entry that is not an array.
Readers = dict[str, Callable[[], np.ndarray] | None]


class NamedArrays:
    """The arrays of one file by name; a value is read when it is asked for.

    Args:
        what: what errors call the file.
        readers: how to read each of them.
        rest: names of the file's entries that are not arrays.
    """

    def __init__(self, what: str, readers: Mapping[str, Callable[[], np.ndarray]], rest: Sequence[str] = ()) -> None:
        self.what, self._readers, self.rest = what, readers, rest

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return list(self._readers)

    def __contains__(self, name: str) -> bool:
        return name in self._readers

    def read(self, name: str) -> np.ndarray:
        """One array.

        Raises:
            InputError: it is damaged, or holds objects that would need a pickle.
        """
        with reading(self.what if len(self._readers) == 1 else f"{self.what}[{name}]", EXPECTED):
            return self._readers[name]()

    def choose(self, wanted: str | None, keys: Sequence[str] = DATA_KEYS) -> str:
        """The name that was asked for, the only one, or the first of the usual ones.

        Raises:
            InputError: no array has that name.
        """
        have = ", ".join(self.names) or "none"
        if wanted is not None:
            if wanted in self._readers:
                return wanted
            raise InputError(self.what, expected=f"an array named {wanted!r}", received=have)
        if len(self._readers) == 1:
            return self.names[0]
        for key in keys:
            if key in self._readers:
                return key
        raise InputError(
            self.what, expected=f"one array, or one named {', '.join(keys)}", received=have,
            do="Name the array: PATH::NAME.",
        )  # fmt: skip


def open_arrays(path: Path | BinaryIO, suffix: str, what: str) -> NamedArrays:
    """The arrays of a file.

    Args:
        path: the file, or its open content.
        suffix: which kind it is: ``.npy``, ``.npz``, ``.safetensors`` or ``.pt``.
        what: what errors call it.

    Raises:
        InputError: it is damaged, or holds objects that would need a pickle.
    """
    with reading(what, EXPECTED):
        readers = _READERS[suffix](path)
        found = {name: reader for name, reader in readers.items() if reader is not None}
        return NamedArrays(what, found, [name for name in readers if name not in found])
    raise InputError(what, expected=EXPECTED, received="nothing")


def items_one_by_one(
    names: Sequence[str], read: Callable[[int], np.ndarray], labels: Any, passed: Any, *, name: str,
    options: ReadingOptions,
) -> Source:  # fmt: skip
    """Arrays that each are one item, stacked; what cannot be read is named, or left out where that was asked."""
    array: np.ndarray | None = None
    kept: list[int] = []
    skipped: list[tuple[str, str]] = []
    for place, one in enumerate(names):
        try:
            item = read(place)
        except (OSError, ValueError) as error:  # InputError is a ValueError
            if not options.skip_bad:
                if isinstance(error, InputError):
                    raise
                raise InputError(one, expected=EXPECTED, received=first_line(error)) from error
            skipped.append((one, first_line(error)))
            passed.add(UNREADABLE.replace("images", "arrays"), one)
            continue
        if array is None:
            array = new_pixels((len(names), *item.shape), name, item.dtype)
        if item.shape != array.shape[1:] or item.dtype != array.dtype:
            raise InputError(
                one, expected=f"{array.dtype} {list(array.shape[1:])}, as {names[kept[0]]}",
                received=f"{item.dtype} {list(item.shape)}",
                do="One file is one item here; for files of many items each, pass files_hold='many items'.",
            )  # fmt: skip
        array[len(kept)] = item
        kept.append(place)
    if array is None:
        raise InputError(name, expected="at least one readable array", received="none")
    found = encode_labels(labels, passed, names.__getitem__)
    source = from_array(
        array[: len(kept)], name=name, names=[names[place] for place in kept],
        labels=None if found.values is None else found.values[kept],
    )  # fmt: skip
    source.class_names, source.skipped = found.class_names, skipped
    return source


def _read_npy(file: Any) -> Readers:
    if isinstance(file, Path):
        mapped = np.load(file, mmap_mode="r", allow_pickle=False)
        return {"arr_0": lambda: mapped}
    return {"arr_0": lambda: np.load(file, allow_pickle=False)}


def _read_npz(file: Any) -> Readers:
    def one(entry: zipfile.ZipInfo) -> np.ndarray:
        ratio = entry.file_size / max(1, entry.compress_size)
        if entry.file_size >= RATIO_COUNTS_FROM and ratio > MAX_RATIO:
            raise ValueError(f"{entry.file_size:,} bytes packed in {entry.compress_size:,}")
        with zipfile.ZipFile(file) as archive, archive.open(entry) as content:
            found = np.lib.format.read_array(content, allow_pickle=False)
            content.read(1)  # the checksum is compared at the end
            return found

    with zipfile.ZipFile(file) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    return {entry.filename.removesuffix(".npy"): partial(one, entry) for entry in entries}


def _read_safetensors(file: Any) -> Readers:
    if not isinstance(file, Path):
        from safetensors.torch import load

        tensors = load(file.read())
        return {key: partial(numpy_of, tensor) for key, tensor in tensors.items()}
    from safetensors import safe_open

    def one(key: str) -> np.ndarray:
        with safe_open(file, framework="pt") as content:
            return numpy_of(content.get_tensor(key))

    with safe_open(file, framework="pt") as content:
        keys = list(content.keys())
    return {key: partial(one, key) for key in keys}


def _read_pt(file: Any) -> Readers:
    import torch

    # weights_only reads tensors and plain containers and refuses every other object.
    content = torch.load(file, map_location="cpu", weights_only=True)
    if isinstance(content, torch.Tensor):
        content = {"x": content}
    if not isinstance(content, dict):
        raise ValueError(f"a {type(content).__name__}, neither a tensor nor a dictionary of tensors")
    return {
        str(key): partial(numpy_of, value) if isinstance(value, torch.Tensor) else None
        for key, value in content.items()
    }


_READERS: dict[str, Callable[[Any], Readers]] = {
    ".npy": _read_npy, ".npz": _read_npz, ".safetensors": _read_safetensors, ".pt": _read_pt,
}  # fmt: skip


def numpy_of(tensor: Any) -> np.ndarray:
    """A tensor as an array; bfloat16, which NumPy lacks, as float32.

    Raises:
        ValueError: it repeats a few stored values into an array that no file of this size can hold.
    """
    import torch

    stored, size = tensor.untyped_storage().nbytes(), tensor.numel() * tensor.element_size()
    if size > stored and size > MAX_MEMBER_BYTES:
        raise ValueError(f"a tensor {list(tensor.shape)} of {size:,} bytes that repeats the {stored:,} it stores")
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
