"""How items of a data set look to a network, and back: uint8 images <-> float CHW in [-1, 1], signals <-> [1, L]."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from memfast.foundation.errors import InputError

HALF_RANGE = 127.5
IMAGE_CHANNELS = (1, 3, 4)
# Two-dimensional floating items are many-channel signals (12-lead ECG) if they are this long and thin, else images.
MOST_SIGNAL_CHANNELS = 16
LEAST_SIGNAL_ASPECT = 4


@dataclass(frozen=True)
class ItemFormat:
    """The form of one item in the data and in front of the network.

    uint8 items are images, ``(H, W)`` or ``(H, W, C)`` with channels last; they become float32 ``(C, H, W)`` with
    ``value / 127.5 - 1``. Floating items keep their values: ``(L,)`` becomes ``(1, L)``, a long thin ``(C, L)`` stays,
    other ``(H, W)`` become ``(1, H, W)``. Of three axes the first is the channels, in arrays and tensors alike, unless
    only the last can be: ``(H, W, C)`` with C in 1, 3, 4 and H in none of them becomes ``(C, H, W)``. Samples come back
    in the data's own layout.

    Attributes:
        kind: ``"image"`` (uint8), ``"signal"`` or ``"array"`` (floating images, latents).
        data_shape: shape of one item in the data.
        data_dtype: ``"uint8"`` or a floating dtype's name.
        item_shape: shape of one item in front of the network.
        value_range: the least and greatest value in front of the network, or None where there is no bound.
    """

    kind: str
    data_shape: tuple[int, ...]
    data_dtype: str
    item_shape: tuple[int, ...]
    value_range: tuple[float, float] | None

    @classmethod
    def of(cls, data_shape: Sequence[int], dtype: np.dtype) -> "ItemFormat":
        """The format of items of this shape and dtype.

        Raises:
            InputError: no network here takes such items.

        >>> ItemFormat.of((28, 28), np.dtype("uint8")).item_shape, ItemFormat.of((140,), np.dtype("float32")).item_shape
        ((1, 28, 28), (1, 140))
        """
        shape, dtype = tuple(int(side) for side in data_shape), np.dtype(dtype)
        if dtype == np.uint8 and len(shape) in (2, 3):
            channels = shape[2] if len(shape) == 3 else 1
            return cls("image", shape, "uint8", (channels, *shape[:2]), (-1.0, 1.0))
        if np.issubdtype(dtype, np.floating) and len(shape) in (1, 2, 3):
            return cls(*_floating(shape, dtype.name), None)
        raise InputError(
            "training data",
            expected="uint8 items (H, W) or (H, W, C), or floating items (L,), (C, L) or (C, H, W)",
            received=f"{dtype.name} items {shape}",
        )

    def to_network(self, items: torch.Tensor) -> torch.Tensor:
        """Items ``[B, *data_shape]`` as the network sees them: float32 ``[B, *item_shape]``."""
        if self._channels_last:
            items = items.permute(0, 3, 1, 2)
        items = items.float()
        return (items / HALF_RANGE - 1.0 if self.kind == "image" else items).reshape(len(items), *self.item_shape)

    def to_data(self, values: torch.Tensor) -> np.ndarray:
        """What the network's side holds, ``[B, *item_shape]``, as items of the data: rounded and clipped if uint8."""
        values = values.detach().float().cpu()
        if self.kind == "image":
            values = ((values + 1.0) * HALF_RANGE).round().clamp(0, 255).to(torch.uint8)
        if self._channels_last:
            values = values.permute(0, 2, 3, 1)
        items = values.reshape(len(values), *self.data_shape).contiguous().numpy()
        return items if self.kind == "image" else items.astype(self.data_dtype, copy=False)

    @property
    def _channels_last(self) -> bool:
        return len(self.data_shape) == 3 and (self.kind == "image" or self.data_shape != self.item_shape)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ItemFormat":
        """Read ``to_dict``'s values."""
        span = values["value_range"]
        return cls(
            values["kind"],
            tuple(values["data_shape"]),
            values["data_dtype"],
            tuple(values["item_shape"]),
            None if span is None else (float(span[0]), float(span[1])),
        )


def _floating(shape: tuple[int, ...], dtype: str) -> tuple[str, tuple[int, ...], str, tuple[int, ...]]:
    if len(shape) == 1:
        return "signal", shape, dtype, (1, *shape)
    if len(shape) == 2:
        thin = shape[0] <= MOST_SIGNAL_CHANNELS and shape[1] >= LEAST_SIGNAL_ASPECT * shape[0]
        return ("signal", shape, dtype, shape) if thin else ("array", shape, dtype, (1, *shape))
    if shape[2] in IMAGE_CHANNELS and shape[0] not in IMAGE_CHANNELS:
        return "array", shape, dtype, (shape[2], *shape[:2])
    return "array", shape, dtype, shape
