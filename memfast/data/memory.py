"""Sources from what is already in memory: arrays, tensors, torch data sets, lists of images, of arrays, of pairs."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from memfast.data.images import PictureCollector
from memfast.data.labels import encode_labels
from memfast.data.not_read import PassedOver
from memfast.data.options import ReadingOptions
from memfast.data.pixels import encoded_content, open_image
from memfast.data.source import ArraySource
from memfast.foundation.arrays import dense_to_numpy, plain_array, require_dense, require_unmasked
from memfast.foundation.errors import InputError

CHANNELS = (1, 3, 4)
IMAGE_FIELDS = ("image", "img", "x", "pixel_values")
LABEL_FIELDS = ("label", "labels")
OTHER_FIELDS = "fields that are not read"
# What Pillow calls images of arrays of this type; other arrays in a list are not images.
_IMAGE_TYPES = {"uint8", "uint16", "int32", "bool"}


def from_array(
    array: np.ndarray, *, name: str = "array", labels: np.ndarray | None = None, names: Sequence[str] | None = None
) -> ArraySource:
    """A source over ``[N, ...]``: uint8 images, or floating signals, latents, features or images.

    A trailing axis of one channel is dropped; float64 stays float64 and integers other than uint8 are refused.

    Raises:
        InputError: no items, no item shape, another dtype, a masked array, or labels of another length.
    """
    check_items(array, name)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if labels is not None:
        require_unmasked(f"{name}: labels", labels)
        labels = np.asarray(labels)
        if labels.shape != (len(array),):
            raise InputError(f"{name}: labels", expected=f"{len(array)} labels", received=f"shape {list(labels.shape)}")
        labels = labels.astype(np.int64)
    if names is not None and len(names) != len(array):
        raise InputError(f"{name}: names", expected=f"{len(array)} names", received=str(len(names)))
    return ArraySource(array, name=name, labels=labels, names=names)


def check_items(array: np.ndarray, name: str) -> None:
    """Raise unless ``array`` is a non-empty ``[N, ...]`` of uint8 or floats.

    Raises:
        InputError: no items, items without values, a masked array, or another dtype.
    """
    require_unmasked(name, array)
    if array.ndim < 2 or array.size == 0:
        raise InputError(name, expected="a non-empty array [N, ...]", received=f"shape {list(array.shape)}")
    if array.dtype != np.uint8 and (array.dtype.kind != "f" or array.dtype.itemsize > 8):
        raise InputError(
            name, expected="uint8 (images) or floating values", received=str(array.dtype),
            do="Convert images to uint8 0..255, everything else to float32.",
        )  # fmt: skip


def from_tensor(tensor: Any, *, name: str = "tensor") -> ArraySource:
    """A source over a torch tensor.

    uint8 images with the channels first become channels last, as files of images are read. Floating tensors (latents,
    signals) keep their layout, as arrays do, and samples of a model come back in it.

    Raises:
        InputError: as for `from_array`, or a sparse, quantized, nested, masked or meta tensor.
    """
    require_dense(name, tensor)
    array = dense_to_numpy(tensor.detach())
    if array.ndim == 4 and array.dtype == np.uint8 and array.shape[1] in CHANNELS and array.shape[-1] not in CHANNELS:
        array = np.moveaxis(array, 1, -1)
    return from_array(array, name=name)


def from_dataset(dataset: Any, *, name: str | None = None, options: ReadingOptions | None = None) -> ArraySource:
    """A source over anything with ``len`` and ``[index]``: torch data sets, lists of images or arrays.

    An item is an array, a tensor, a Pillow image, the bytes or the path of an encoded image; a pair (item, label); or a
    dictionary with ``image`` (or ``img``, ``x``, ``pixel_values``) and maybe ``label``. Images become the same pixels
    as files of the same content. Arrays of one shape are stacked as they are; where gray and colour are mixed, where
    there are 2 or 4 channels of uint8, or where a mode or size was asked for, arrays are images.
    """
    name, options = name or type(dataset).__name__, options or ReadingOptions()
    options.refuse_parts(name)
    options.refuse_label_column(name)
    count = len(dataset)
    if count == 0:
        raise InputError(name, expected="at least one item", received="none")
    gathered = _Collected(name, count, options)
    labels, fields = [], dict[str, None]()
    for index in range(count):
        try:
            item = dataset[index]
        except (KeyError, IndexError, TypeError) as error:
            raise InputError(
                f"{name}[{index}]", expected="an item", received=f"{type(error).__name__}: {error}"
            ) from error
        value, label, rest = _split(item, f"{name}[{index}]")
        fields.update(dict.fromkeys(rest))
        gathered.add(value)
        labels.append(label)
    passed = PassedOver()
    for field in fields:
        passed.add(OTHER_FIELDS, field)
    found = encode_labels(labels, passed, lambda place: f"{name}[{place}]")
    return gathered.source(found, passed)


class _Collected:
    """Items of one kind: arrays to be stacked until one of them has to be seen as an image."""

    def __init__(self, name: str, count: int, options: ReadingOptions) -> None:
        self.name, self.count, self.options = name, count, options
        self.arrays: list[np.ndarray] = []
        self.pictures: PictureCollector | None = None
        self.place = 0

    def add(self, value: Any) -> None:
        place, self.place = self.place, self.place + 1
        if isinstance(value, (Image.Image, bytes, str, os.PathLike)):
            self._see(place, value)
            return
        array = _item_array(value, f"{self.name}[{place}]")
        first = self.arrays[0] if self.arrays else array
        same = array.shape == first.shape and array.dtype == first.dtype
        if self.pictures is not None or self._is_image(array) or (not same and _may_be_image(array)):
            self._see(place, array)
        elif not same:
            raise InputError(
                f"{self.name}[{place}]", expected=f"{first.dtype} {list(first.shape)} as the first item",
                received=f"{array.dtype} {list(array.shape)}",
            )  # fmt: skip
        else:
            self.arrays.append(array)

    def source(self, labels: Any, passed: PassedOver) -> ArraySource:
        if self.pictures is not None:
            names = [str(place) for place in range(self.count)] if not self.pictures.kept.all() else range(self.count)
            source: ArraySource = self.pictures.source(names, labels, passed)  # type: ignore[arg-type]
        else:
            source = from_array(np.stack(self.arrays), name=self.name, labels=labels.values)
            source.class_names = labels.class_names
        source.not_read = passed.result()
        return source

    def _is_image(self, array: np.ndarray) -> bool:
        """Whether an array has to be seen as an image, even where all have one shape."""
        asked = self.options.converts_images
        other = array.dtype != np.uint8 or (array.ndim == 3 and array.shape[-1] in (2, 4))
        return _may_be_image(array) and (asked or other)

    def _see(self, place: int, value: Any) -> None:
        if self.pictures is None:
            self.pictures = PictureCollector(self.name, self.count, self.options)
            earlier, self.arrays = self.arrays, []
            for number, array in enumerate(earlier):
                self._see(number, array)
        self.pictures.add(place, f"{self.name}[{place}]", _picture(value, f"{self.name}[{place}]"))


def _picture(value: Any, name: str) -> Callable[[], tuple[Image.Image, bytes]]:
    """How to get an image, and its encoded content where there is one."""
    if isinstance(value, Image.Image):
        return lambda: _undecoded(value)
    if isinstance(value, bytes):
        return lambda: (open_image(value), value)
    if isinstance(value, (str, os.PathLike)):
        return lambda: _picture_of_file(Path(value))
    if not _may_be_image(value):
        raise InputError(name, expected="an image, as the items before", received=f"{value.dtype} {list(value.shape)}")
    return lambda: (_image_of(value), b"")


def _undecoded(image: Image.Image) -> tuple[Image.Image, bytes]:
    """A picture that is only opened yet is read from its file, by the rules for files."""
    content = encoded_content(image)
    if not content:
        return image, b""
    again = open_image(content, str(getattr(image, "filename", "")))
    return (again, content) if again.size == image.size else (image, b"")  # a caller's draft of another size stays


def _picture_of_file(path: Path) -> tuple[Image.Image, bytes]:
    if not path.is_file():
        raise OSError(f"no file at {path}")
    content = path.read_bytes()
    return open_image(content, path.name), content


def _image_of(array: np.ndarray) -> Image.Image:
    mode = {"uint16": "I;16", "int32": "I"}.get(array.dtype.name)
    if mode is not None:
        order = array.astype("<u2" if mode == "I;16" else "=i4")
        return Image.frombytes(mode, array.shape[::-1], order.tobytes())
    return Image.fromarray(np.ascontiguousarray(array))


def _may_be_image(array: np.ndarray) -> bool:
    if array.dtype.name not in _IMAGE_TYPES or array.size == 0:
        return False
    return array.ndim == 2 or (array.ndim == 3 and array.dtype == np.uint8 and array.shape[-1] in (2, 3, 4))


def _split(item: Any, name: str) -> tuple[Any, Any, list[str]]:
    """The item itself, its label, and the names of what else there is."""
    if isinstance(item, dict):
        field = next((one for one in IMAGE_FIELDS if one in item), None)
        if field is None:
            raise InputError(name, expected="a field " + " or ".join(IMAGE_FIELDS), received=", ".join(map(str, item)))
        label = next((one for one in LABEL_FIELDS if one in item), None)
        rest = [str(one) for one in item if one not in (field, label)]
        return item[field], None if label is None else item[label], rest
    if isinstance(item, (tuple, list)):
        if not item:
            raise InputError(name, expected="an item, or an item and its label", received="an empty pair")
        return item[0], item[1] if len(item) > 1 else None, [f"[{place}]" for place in range(2, len(item))]
    return item, None, []


def _item_array(value: Any, name: str) -> np.ndarray:
    array = plain_array(name, value)
    is_image = hasattr(value, "detach") and array.ndim == 3 and array.dtype == np.uint8
    if is_image and array.shape[0] in CHANNELS and array.shape[-1] not in CHANNELS:
        array = np.moveaxis(array, 0, -1)
    return array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
