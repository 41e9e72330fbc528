"""diffusers' two-dimensional U-Net, behind this package's call."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from memfast.foundation.errors import InputError, MissingPackageError
from memfast.models.embedding import LabelEmbedding, labels_or_none, refuse_labels

LARGEST_GROUPS = 32
# The timestep enters as one number per channel, before a normalization: a group of one channel would take it out again.
CHANNELS_PER_GROUP = 4


class DiffusersUNet2d(nn.Module):
    """A ``diffusers.UNet2DModel`` called as ``model(x, timesteps, labels=None)``.

    Sides that are not multiples of the network's total stride are padded with zeros and cropped again. With classes,
    the last row of its class embedding means "no class".

    Args:
        options: the arguments of ``UNet2DModel``.
    """

    kind: ClassVar[str] = "diffusers_unet2d"

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        try:
            from diffusers import UNet2DModel
        except ImportError as error:
            raise MissingPackageError("diffusers", purpose="the model unet2d", extra="train") from error
        self._take(UNet2DModel(**options))

    @classmethod
    def around(cls, network: Any) -> "DiffusersUNet2d":
        """A ``UNet2DModel`` that exists already, with its weights; its configuration is kept as ``memfast_config``."""
        wrapped = cls.__new__(cls)
        nn.Module.__init__(wrapped)
        wrapped._take(network)
        options = {name: value for name, value in dict(network.config).items() if not name.startswith("_")}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
        wrapped.memfast_config = {"kind": "diffusers_unet2d", "options": plain}  # type: ignore[assignment]
        return wrapped

    def _take(self, network: Any) -> None:
        self.network = network
        self._stride = 2 ** (len(network.config["down_block_types"]) - 1)
        embeddings = network.config["num_class_embeds"]
        self._num_classes = None if embeddings is None else embeddings - 1
        if isinstance(rows := network.class_embedding, nn.Embedding):
            network.class_embedding = LabelEmbedding(
                rows.num_embeddings, rows.embedding_dim, _weight=rows.weight.detach()
            )

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """The prediction, shaped as ``x``."""
        if self._num_classes is None:
            refuse_labels(labels)
        else:
            labels = labels_or_none(labels, timesteps, self._num_classes)
        height, width = x.shape[-2:]
        below, right = -height % self._stride, -width % self._stride
        if below or right:
            x = nn.functional.pad(x, (0, right, 0, below))
        result = self.network(x, timesteps, class_labels=labels, return_dict=False)[0]
        return result[..., :height, :width]


class UNet2d(DiffusersUNet2d):
    """A small U-Net for images.

    Args:
        item_shape: ``(C, H, W)``.
        widths: channels per resolution; each further one halves the sides.
        layers: residual blocks per resolution.
        attention: self-attention at each resolution, False or True for each; by default at the lowest only.
        num_classes: number of classes, or None.
        dropout: dropout probability.
    """

    kind: ClassVar[str] = "unet2d"

    def __init__(
        self,
        item_shape: Sequence[int],
        widths: Sequence[int] = (32, 64, 64),
        layers: int = 1,
        attention: Sequence[bool] | None = None,
        num_classes: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        if len(item_shape) != 3:
            raise InputError("item_shape", expected="(C, H, W) for unet2d", received=str(tuple(item_shape)))
        attention = tuple(attention) if attention is not None else (False,) * (len(widths) - 1) + (True,)
        if len(attention) != len(widths):
            raise InputError("attention", expected=f"{len(widths)} values", received=str(len(attention)))
        down = tuple("AttnDownBlock2D" if flag else "DownBlock2D" for flag in attention)
        up = tuple("AttnUpBlock2D" if flag else "UpBlock2D" for flag in reversed(attention))
        groups = math.gcd(LARGEST_GROUPS, max(1, math.gcd(*widths) // CHANNELS_PER_GROUP))
        super().__init__(
            {
                "in_channels": item_shape[0],
                "out_channels": item_shape[0],
                "block_out_channels": tuple(widths),
                "down_block_types": down,
                "up_block_types": up,
                "layers_per_block": layers,
                "norm_num_groups": groups,
                "attention_head_dim": math.gcd(*widths) if len(widths) else 8,
                "dropout": dropout,
                "num_class_embeds": None if num_classes is None else num_classes + 1,
            }
        )
