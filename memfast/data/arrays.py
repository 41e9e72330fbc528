"""Arrays: in memory, in one file, in files of many items each (shards), or in files of one item each (caches)."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from memfast.data.array_files import OTHER_ARRAYS, SUFFIXES, NamedArrays, items_one_by_one, open_arrays
from memfast.data.format import Format
from memfast.data.labels import encode_labels, labels_beside
from memfast.data.listing import Folder
from memfast.data.memory import CHANNELS, from_array, from_tensor
from memfast.data.not_read import PassedOver
from memfast.data.options import ReadingOptions
from memfast.data.shards import ArrayFile, ShardedSource
from memfast.data.source import ArraySource, Source
from memfast.foundation.errors import InputError

LABEL_KEYS = ("labels", "label", "y", "targets", "classes")
OWN_LABELS = {"x_train": "y_train", "x_test": "y_test", "arr_0": "arr_1"}
NAME_KEYS = ("names", "name")
NAMED_KEYS = ("x", "images", "samples")
LATENT_CHANNELS = (*CHANNELS, 2, 8, 16, 32, 64, 128)
_HOLD = {"one-item": "one item", "many-items": "many items"}


class Arrays(Format):
    """npy (memory-mapped), npz, safetensors and pt files, and arrays and tensors in memory."""

    name = "arrays"

    def claim(self, place: Folder) -> list[str]:
        """Every file of arrays."""
        return place.ending(SUFFIXES)

    def read(self, place: Folder, names: list[str], options: ReadingOptions) -> Source:
        """The array of a file, or the items of several files."""
        place.use(names)
        what = place.what
        if place.root is not None:
            names, what, options = options.choose_split(what, names, place.passed)
        if options.parts and options.parts[0] in _HOLD:
            options = replace(options, files_hold=_HOLD[options.parts[0]], parts=options.parts[1:])
        if all(name.lower().endswith(".npy") for name in names):
            options.refuse_parts(place.what, "::NAME only where several arrays are")
        options = options.take_column()
        options.refuse_split(what)
        if len(names) == 1 and options.files_hold != "one item":
            return self._one_file(place, names[0], what, options)
        return _several_files(place, names, what, options)

    def _one_file(self, place: Folder, name: str, what: str, options: ReadingOptions) -> Source:
        path = place.path(name)
        arrays = open_arrays(path, path.suffix.lower(), str(path))
        return _named(arrays, str(path) if place.root is None else what, options, place.passed)

    def accepts(self, data: Any) -> bool:
        """Arrays, tensors, and dictionaries of them."""
        if isinstance(data, Mapping):
            return bool(data) and all(self.accepts(value) and not isinstance(value, Mapping) for value in data.values())
        return isinstance(data, np.ndarray) or _is_tensor(data)

    def read_object(self, data: Any, name: str | None, options: ReadingOptions) -> Source:
        """An array or tensor, or the chosen one of several with names."""
        if isinstance(data, Mapping):
            readers = {str(key): partial(_array, value) for key, value in data.items()}
            passed = PassedOver()
            source = _named(NamedArrays(name or "dictionary", readers), name or "dictionary", options, passed)
            source.not_read = passed.result()
            return source
        options.refuse_parts(name or type(data).__name__)
        options.refuse_label_column(name or type(data).__name__)
        if isinstance(data, np.ndarray):
            return from_array(data, name=name or "array")
        return from_tensor(data, name=name or "tensor")


def one_item_each(shapes: list[tuple[int, ...]], dtype: np.dtype) -> bool | None:
    """Whether files of these shapes hold one item each (True) or many (False); None where both could be.

    >>> one_item_each([(4, 16, 16)] * 3, np.dtype("float32")), one_item_each([(9, 8, 8), (3, 8, 8)], np.dtype("uint8"))
    (True, False)
    """
    shape = shapes[0]
    if any(one != shape for one in shapes):
        return False
    if len(shape) == 1 or _is_batch_of_one(shape):
        return True
    # More files than rows in each: nobody writes so many shards of so few items.
    many = len(shapes) > shape[0]
    square = len(shape) > 1 and shape[0] == shape[1]
    if len(shape) == 3:
        first = shape[0] in CHANNELS or (dtype.kind == "f" and shape[0] in LATENT_CHANNELS and many)
        last = shape[-1] in CHANNELS and (dtype == np.uint8 or square or many)
        return True if first or last else None
    if len(shape) == 2:
        return True if many or (dtype == np.uint8 and square) else None
    return False


def _several_files(place: Folder, names: list[str], what: str, options: ReadingOptions) -> Source:
    files = [ArrayFile(place.path(name), options.column) for name in names]
    each = {"one item": True, "many items": False}.get(options.files_hold or "")
    if each is None:
        shapes = [file.shape for file in files]
        each = one_item_each(shapes, files[0].dtype)
        if each is None:
            raise InputError(
                what, expected="files of one item each, or files of many items each",
                received=f"{len(files)} files of shape {list(shapes[0])}, which could be either",
                do="Say which: PATH::one-item (files_hold='one item') or PATH::many-items (files_hold='many items').",
            )  # fmt: skip
    if not each:
        return _shards(place, names, files, what, options)
    for file, name in zip(files, names, strict=True):
        for other in file.others:
            place.passed.add(OTHER_ARRAYS, f"{name}[{other}]")
    labels = None if place.root is None else labels_beside(place, names)

    def item(at: int) -> np.ndarray:
        rows = files[at].rows()
        return rows[0] if _is_batch_of_one(rows.shape) else rows

    return items_one_by_one(names, item, labels, place.passed, name=what, options=options)


def _is_batch_of_one(shape: tuple[int, ...]) -> bool:
    """Whether one item of this shape was saved as the batch that a model took or gave."""
    return len(shape) in (2, 4) and shape[0] == 1


def _shards(
    place: Folder, names: list[str], files: list[ArrayFile], what: str, options: ReadingOptions
) -> ShardedSource:
    """Files of many items each, with the labels and names that lie beside the items in each file."""
    labels: list[np.ndarray | None] = []
    titles: list[np.ndarray | None] = []
    for file, name in zip(files, names, strict=True):
        arrays = open_arrays(file.path, file.path.suffix.lower(), str(file.path))
        used = {file.key}
        labels.append(_beside(arrays, _label_keys(arrays, file.key, options), len(file), used))
        titles.append(_beside(arrays, NAME_KEYS, len(file), used) if file.key in NAMED_KEYS else None)
        for other in file.others:
            if other not in used:
                place.passed.add(OTHER_ARRAYS, f"{name}[{other}]")
    given = None
    if any(some is not None for some in labels):
        parts = zip(labels, files, strict=True)
        given = [label for some, file in parts for label in ([None] * len(file) if some is None else some.tolist())]
    encoded = encode_labels(given, place.passed)
    own_names = None
    if all(some is not None for some in titles):
        own_names = [str(title) for some in titles if some is not None for title in some.tolist()]
    source = ShardedSource(
        [file if file.mapped else file.rows() for file in files], name=what, labels=encoded.values, names=own_names
    )
    source.class_names = encoded.class_names
    return source


def _named(arrays: NamedArrays, what: str, options: ReadingOptions, passed: Any) -> ArraySource:
    key = arrays.choose(options.column)
    data = arrays.read(key)
    name = f"{what}[{key}]" if len(arrays.names) > 1 else what
    used = {key}
    names = _beside(arrays, NAME_KEYS, len(data), used) if key in NAMED_KEYS else None
    labels = _beside(arrays, _label_keys(arrays, key, options), len(data), used)
    found = encode_labels(labels, passed)
    for other in (*arrays.names, *arrays.rest):
        if other not in used:
            passed.add(OTHER_ARRAYS, f"{what}[{other}]")
    source = from_array(data, name=name, labels=found.values, names=None if names is None else names.tolist())
    source.class_names = found.class_names
    return source


def _label_keys(arrays: NamedArrays, key: str, options: ReadingOptions) -> tuple[str, ...]:
    """Under which names the labels of the array ``key`` may lie."""
    if options.label_column is not None:
        wanted = str(options.label_column)
        if wanted not in arrays:
            raise InputError(arrays.what, expected=f"labels named {wanted!r}", received=", ".join(arrays.names))
        return (wanted,)
    own = (OWN_LABELS[key],) if key in OWN_LABELS else ()
    # A test set must not get the labels of the training set that lies beside it.
    return own if key in ("x_train", "x_test") else own + LABEL_KEYS


def _beside(arrays: NamedArrays, keys: tuple[str, ...], count: int, used: set[str]) -> np.ndarray | None:
    """The first of these arrays that has one value per item."""
    for key in keys:
        if key not in arrays or key in used:
            continue
        values = arrays.read(key)
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1 or values.dtype.kind not in "iubfUS":
            continue
        if len(values) != count:
            raise InputError(
                f"{arrays.what}: {key}", expected=f"{count} values, one per item", received=str(len(values)),
                do="Repair the file, or save the items alone.",
            )  # fmt: skip
        used.add(key)
        return values
    return None


def _is_tensor(data: Any) -> bool:
    return type(data).__module__.split(".")[0] == "torch" and hasattr(data, "detach") and hasattr(data, "cpu")


def _array(value: Any) -> np.ndarray:
    return value if isinstance(value, np.ndarray) else from_tensor(value).array
