"""A residual multilayer perceptron over the flattened item: the smallest network that can memorize a small set."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from memfast.models.embedding import ConditionEmbedding


class Mlp(nn.Module):
    """Flatten, residual blocks modulated by the timestep, unflatten.

    Args:
        item_shape: shape of one item, ``(C, H, W)`` or ``(C, L)``.
        width: features per layer.
        blocks: number of residual blocks, each of two layers.
        num_classes: number of classes, or None.
        dropout: dropout probability inside the blocks.

    >>> Mlp((1, 4, 4), width=8, blocks=1)(torch.zeros(2, 1, 4, 4), torch.tensor([0, 9])).shape
    torch.Size([2, 1, 4, 4])
    """

    kind: ClassVar[str] = "mlp"

    def __init__(
        self,
        item_shape: Sequence[int],
        width: int = 512,
        blocks: int = 3,
        num_classes: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        numel = math.prod(item_shape)
        self.condition = ConditionEmbedding(width, num_classes)
        self.first = nn.Linear(numel, width)
        self.blocks = nn.ModuleList(_ResidualLayer(width, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, numel)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """The prediction, shaped as ``x``."""
        vector = nn.functional.silu(self.condition(timesteps, labels))
        hidden = self.first(x.flatten(1).to(self.first.weight.dtype))
        for block in self.blocks:
            hidden = block(hidden, vector)
        return self.last(nn.functional.silu(self.norm(hidden))).reshape(x.shape)


class _ResidualLayer(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        scale, shift = self.modulation(vector).chunk(2, dim=1)
        inner = self.norm(hidden) * (1 + scale) + shift
        return hidden + self.outer(self.dropout(nn.functional.silu(self.inner(inner))))
