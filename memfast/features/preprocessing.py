"""From items of a data set to what a network takes; a part of the features' identity, not a detail."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError

RESIZES = ("none", "bilinear", "bicubic")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """What happens to an image between the data set and the network.

    uint8 values become 0 to 1, floats are taken from ``value_range`` to 0 to 1; grey images are repeated to
    ``channels``; the shorter side is brought to ``resize_to`` (antialiased), the centre ``crop_to`` square is cut, and
    ``(value - mean) / std`` follows.

    Attributes:
        resize_to: pixels of the shorter side, or None.
        crop_to: pixels of the square cut from the centre, or None.
        resize: ``bilinear`` or ``bicubic``, both antialiased, or ``none``.
        mean: of each channel, or one for all.
        std: of each channel, or one for all.
        channels: what the network takes: 1, 3, or None to leave it.
        value_range: the float values that mean 0 and 1; values outside are an error.
        images: False passes items on as float32 with no change: signals, latents.
    """

    resize_to: int | None = None
    crop_to: int | None = None
    resize: str = "bilinear"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: int | None = None
    value_range: tuple[float, float] = (0.0, 1.0)
    images: bool = True

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise InputError("resize", expected=f"one of {', '.join(RESIZES)}", received=repr(self.resize))
        for name, values, above in (
            ("mean", self.mean, None),
            ("std", self.std, 0),
            ("value_range", self.value_range, None),
        ):
            for value in values:
                finite_number(name, value, above=above)
        if len(self.mean) != len(self.std):
            raise InputError("std", expected="one positive number per mean", received=repr(self.std))
        for name in ("resize_to", "crop_to", "channels"):
            if getattr(self, name) is not None:
                whole_number(name, getattr(self, name), least=1)
        if len(self.value_range) != 2 or not self.value_range[0] < self.value_range[1]:
            raise InputError("value_range", expected="the lower and the higher value", received=repr(self.value_range))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they enter the cache key and the result."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def __call__(self, items: np.ndarray) -> torch.Tensor:
        """Items ``[B, H, W]`` or ``[B, H, W, C]`` (channels last) as float32 ``[B, C, h, w]``.

        Raises:
            InputError: items that are no images or of other channels, or float values outside ``value_range``.
        """
        tensor = torch.from_numpy(np.ascontiguousarray(items))
        if not self.images:
            return tensor.float()
        if tensor.ndim == 3:
            tensor = tensor[..., None]
        if tensor.ndim != 4 or tensor.shape[-1] not in (1, 3, 4):
            raise InputError(
                "items",
                expected="images [H, W] or [H, W, C] with 1, 3 or 4 channels",
                received=f"item shape {tuple(items.shape[1:])}",
                do="For signals and latents pass Preprocessing(images=False).",
            )
        tensor = self._channels(self._unit(tensor).permute(0, 3, 1, 2))
        if len(self.mean) not in (1, tensor.shape[1]):
            raise InputError(
                "items",
                expected=f"images of {len(self.mean)} channels, as mean and std have",
                received=f"{tensor.shape[1]}",
                do="State the network's: Preprocessing(channels=3) repeats grey and drops transparency.",
            )
        tensor = self._sized(tensor)
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return ((tensor - mean) / std).contiguous()

    def _unit(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype == torch.uint8:
            return tensor.float() / 255
        low, high = self.value_range
        if not (low <= float(tensor.min()) and float(tensor.max()) <= high):
            raise InputError(
                "items",
                expected=f"float values from {low} to {high}",
                received=f"{float(tensor.min()):.4g} to {float(tensor.max()):.4g}",
                do="State the range: Preprocessing(value_range=(low, high)).",
            )
        return (tensor.float() - low) / (high - low)

    def _channels(self, tensor: torch.Tensor) -> torch.Tensor:
        have = tensor.shape[1]
        if self.channels in (None, have):
            return tensor
        if have == 1:
            return tensor.expand(-1, self.channels, -1, -1)
        if have == 4 and self.channels == 3:
            return tensor[:, :3]
        raise InputError("items", expected=f"images of {self.channels} channels", received=f"{have}")

    def _sized(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.resize_to is not None and self.resize != "none":
            height, width = tensor.shape[-2:]
            factor = self.resize_to / min(height, width)
            size = (max(self.resize_to, round(height * factor)), max(self.resize_to, round(width * factor)))
            tensor = functional.interpolate(tensor, size=size, mode=self.resize, antialias=True).clamp(0, 1)
        if self.crop_to is None:
            return tensor
        top, left = ((side - self.crop_to) // 2 for side in tensor.shape[-2:])
        if top < 0 or left < 0:
            raise InputError(
                "items",
                expected=f"at least {self.crop_to} pixels a side to cut from",
                received=f"{tuple(tensor.shape[-2:])}",
            )
        return tensor[..., top : top + self.crop_to, left : left + self.crop_to]
