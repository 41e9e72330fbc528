"""How items of a data set look to a network, and back: uint8 images <-> float CHW in [-1, 1], signals <-> [1, L]."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from memfast.foundation.errors import InputError

HALF_RANGE = 127.5


@dataclass(frozen=True)
class ItemFormat:
    """The form of one item in the data and in front of the network.

    uint8 items are images, ``(H, W)`` or ``(H, W, C)`` with channels last; they become float32 ``(C, H, W)`` with
    ``value / 127.5 - 1``. Floating items keep their values: ``(L,)`` becomes ``(1, L)``; ``(C, L)`` and ``(C, H, W)``
    stay as they are.

    Attributes:
        kind: ``"image"``, ``"signal"`` or ``"array"``.
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
            kind = "array" if len(shape) == 3 else "signal"
            return cls(kind, shape, dtype.name, (1, *shape) if len(shape) == 1 else shape, None)
        raise InputError(
            "training data",
            expected="uint8 items (H, W) or (H, W, C), or floating items (L,), (C, L) or (C, H, W)",
            received=f"{dtype.name} items {shape}",
        )

    def to_network(self, items: torch.Tensor) -> torch.Tensor:
        """Items ``[B, *data_shape]`` as the network sees them: float32 ``[B, *item_shape]``."""
        if self.kind == "image":
            if len(self.data_shape) == 3:
                items = items.permute(0, 3, 1, 2)
            items = items.float() / HALF_RANGE - 1.0
        return items.float().reshape(len(items), *self.item_shape)

    def to_data(self, values: torch.Tensor) -> np.ndarray:
        """What the network's side holds, ``[B, *item_shape]``, as items of the data: rounded and clipped if uint8."""
        values = values.detach().float().cpu()
        if self.kind == "image":
            values = ((values + 1.0) * HALF_RANGE).round().clamp(0, 255).to(torch.uint8)
            if len(self.data_shape) == 3:
                values = values.permute(0, 2, 3, 1)
            return np.ascontiguousarray(values.reshape(len(values), *self.data_shape).numpy())
        return values.reshape(len(values), *self.data_shape).numpy().astype(self.data_dtype)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

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
