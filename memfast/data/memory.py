"""Sources from what is already in memory: arrays, tensors, torch and Hugging Face data sets, lists of images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from memfast.data.source import ArraySource
from memfast.foundation.errors import InputError

CHANNELS = (1, 3, 4)


def from_array(
    array: np.ndarray, *, name: str = "array", labels: np.ndarray | None = None, names: Sequence[str] | None = None
) -> ArraySource:
    """A source over ``[N, ...]``: uint8 images, or floating signals, latents, features or images.

    A trailing axis of one channel is dropped; float64 stays float64 and integers other than uint8 are refused.

    Raises:
        InputError: no items, no item shape, another dtype, or labels of another length.
    """
    if array.ndim < 2 or len(array) == 0:
        raise InputError(name, expected="a non-empty array [N, ...]", received=f"shape {list(array.shape)}")
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            name, expected="uint8 (images) or floating values", received=str(array.dtype),
            do="Convert images to uint8 0..255, everything else to float32.",
        )  # fmt: skip
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != (len(array),):
            raise InputError(f"{name}: labels", expected=f"{len(array)} labels", received=f"shape {list(labels.shape)}")
        labels = labels.astype(np.int64)
    return ArraySource(array, name=name, labels=labels, names=names)


def from_tensor(tensor: Any, *, name: str = "tensor") -> ArraySource:
    """A source over a torch tensor.

    uint8 images with the channels first become channels last, as files of images are read. Floating tensors (latents,
    signals) keep their layout, as arrays do, and samples of a model come back in it.
    """
    import torch

    tensor = tensor.detach().cpu()
    array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    if array.ndim == 4 and array.dtype == np.uint8 and array.shape[1] in CHANNELS and array.shape[-1] not in CHANNELS:
        array = np.moveaxis(array, 1, -1)
    return from_array(array, name=name)


def from_dataset(dataset: Any, *, name: str | None = None) -> ArraySource:
    """A source over anything with ``len`` and ``[index]``: torch data sets, Hugging Face data sets, lists of images.

    An item is an array, a tensor or a Pillow image; a pair (item, label); or a dictionary with ``image`` (or ``img``,
    ``x``, ``pixel_values``) and maybe ``label``.
    """
    name = name or type(dataset).__name__
    if len(dataset) == 0:
        raise InputError(name, expected="at least one item", received="none")
    items, labels = [], []
    for index in range(len(dataset)):
        value, label = _split(dataset[index], f"{name}[{index}]")
        items.append(_item_array(value))
        labels.append(label)
        if items[-1].shape != items[0].shape or items[-1].dtype != items[0].dtype:
            raise InputError(
                f"{name}[{index}]", expected=f"{items[0].dtype} {list(items[0].shape)} as the first item",
                received=f"{items[-1].dtype} {list(items[-1].shape)}",
            )  # fmt: skip
    known = all(isinstance(label, (int, np.integer)) for label in labels)
    source = from_array(np.stack(items), name=name, labels=np.array(labels) if known else None)
    source.class_names = _class_names(dataset) if known else None
    return source


def _class_names(dataset: Any) -> list[str] | None:
    """Names of the classes, as a Hugging Face data set knows them."""
    features = getattr(dataset, "features", None)
    if not isinstance(features, dict):
        return None
    return next((getattr(features[one], "names", None) for one in ("label", "labels") if one in features), None)


IMAGE_FIELDS = ("image", "img", "x", "pixel_values")


def _split(item: Any, name: str) -> tuple[Any, Any]:
    if isinstance(item, dict):
        for field in IMAGE_FIELDS:
            if field in item:
                return item[field], item.get("label", item.get("labels"))
        raise InputError(name, expected="a field " + " or ".join(IMAGE_FIELDS), received=", ".join(map(str, item)))
    if isinstance(item, (tuple, list)):
        label: Any = item[1] if len(item) > 1 else None
        return item[0], int(label) if hasattr(label, "item") else label
    return item, None


def _item_array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    is_image = hasattr(value, "detach") and array.ndim == 3 and array.dtype == np.uint8
    if is_image and array.shape[0] in CHANNELS and array.shape[-1] not in CHANNELS:
        array = np.moveaxis(array, 0, -1)
    return array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
