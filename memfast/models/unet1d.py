"""A small one-dimensional U-Net for signals of any length.

Ours because diffusers' ``UNet1DModel`` needs lengths that are multiples of its total stride and knows no classes.
"""

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import nn

from memfast.foundation.errors import InputError
from memfast.models.embedding import ConditionEmbedding

LARGEST_GROUPS = 8
# A group of one channel would have its mean taken out wherever the length has shrunk to a few elements.
CHANNELS_PER_GROUP = 4


class UNet1d(nn.Module):
    """Residual convolution blocks over halving lengths, with skips.

    Args:
        item_shape: ``(C, L)``; any length.
        widths: channels per resolution; each further one halves the length (rounding up).
        layers: residual blocks per resolution.
        num_classes: number of classes, or None.
        dropout: dropout probability inside the blocks.

    >>> UNet1d((1, 35), widths=(8, 8))(torch.zeros(2, 1, 35), torch.tensor([0, 9])).shape
    torch.Size([2, 1, 35])
    """

    kind: ClassVar[str] = "unet1d"

    def __init__(
        self,
        item_shape: Sequence[int],
        widths: Sequence[int] = (32, 64, 96),
        layers: int = 1,
        num_classes: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(item_shape) != 2:
            raise InputError("item_shape", expected="(C, L) for unet1d", received=str(tuple(item_shape)))
        channels, embedding = item_shape[0], 4 * widths[0]
        self.condition = ConditionEmbedding(embedding, num_classes)
        self.first = nn.Conv1d(channels, widths[0], 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        incoming = widths[0]
        for level, width in enumerate(widths):
            sizes = [incoming] + [width] * layers
            self.down.append(nn.ModuleList(_ConvolutionBlock(a, width, embedding, dropout) for a in sizes[:layers]))
            last = level == len(widths) - 1
            self.shrink.append(nn.Identity() if last else nn.Conv1d(width, width, 3, stride=2, padding=1))
            incoming = width
        self.middle = _ConvolutionBlock(incoming, incoming, embedding, dropout)
        for level, width in enumerate(reversed(widths)):
            sizes = [incoming + width] + [width] * (layers - 1)
            self.grow.append(_Grow(incoming) if level else nn.Identity())
            self.up.append(nn.ModuleList(_ConvolutionBlock(a, width, embedding, dropout) for a in sizes))
            incoming = width
        self.norm = nn.GroupNorm(_groups(incoming), incoming)
        self.last = nn.Conv1d(incoming, channels, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """The prediction, shaped as ``x``."""
        vector = nn.functional.silu(self.condition(timesteps, labels))
        hidden = self.first(x.to(self.first.weight.dtype))
        skips = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            for block in cast(nn.ModuleList, blocks):
                hidden = block(hidden, vector)
            skips.append(hidden)
            hidden = shrink(hidden)
        hidden = self.middle(hidden, vector)
        for blocks, grow in zip(self.up, self.grow, strict=True):
            skip = skips.pop()
            hidden = grow(hidden, skip.shape[-1]) if isinstance(grow, _Grow) else hidden
            hidden = torch.cat([hidden, skip], dim=1)
            for block in cast(nn.ModuleList, blocks):
                hidden = block(hidden, vector)
        return self.last(nn.functional.silu(self.norm(hidden)))


class _Grow(nn.Module):
    """To the length of the skip, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor, length: int) -> torch.Tensor:
        return self.convolution(nn.functional.interpolate(x, size=length, mode="nearest"))


class _ConvolutionBlock(nn.Module):
    def __init__(self, incoming: int, outgoing: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(_groups(incoming), incoming)
        self.first = nn.Conv1d(incoming, outgoing, 3, padding=1)
        self.modulation = nn.Linear(embedding, outgoing)
        self.second_norm = nn.GroupNorm(_groups(outgoing), outgoing)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Conv1d(outgoing, outgoing, 3, padding=1)
        self.skip = nn.Identity() if incoming == outgoing else nn.Conv1d(incoming, outgoing, 1)

    def forward(self, x: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        hidden = self.first(nn.functional.silu(self.first_norm(x))) + self.modulation(vector)[:, :, None]
        return self.skip(x) + self.second(self.dropout(nn.functional.silu(self.second_norm(hidden))))


def _groups(channels: int) -> int:
    most = max(1, min(LARGEST_GROUPS, channels // CHANNELS_PER_GROUP))
    return next(groups for groups in range(most, 0, -1) if channels % groups == 0)
