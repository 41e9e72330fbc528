"""What every network here shares: sinusoidal timestep features and class embeddings with a "no class" entry."""

import math

import torch
from torch import nn

from memfast.foundation.errors import InputError

LONGEST_PERIOD = 10_000.0


def timestep_features(timesteps: torch.Tensor, dimension: int) -> torch.Tensor:
    """Sine and cosine of each timestep at geometric frequencies, float32 ``[B, dimension]``.

    Args:
        timesteps: ``[B]``, integer or real; 0-based indices as the objective and the samplers give them.
        dimension: an even number of features.

    >>> timestep_features(torch.tensor([0, 5]), 4)[0]
    tensor([1., 1., 0., 0.])
    """
    half = dimension // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * torch.exp(-math.log(LONGEST_PERIOD) * exponents)[None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class ConditionEmbedding(nn.Module):
    """Timesteps and, where the model has classes, labels -> one vector per sample.

    Args:
        width: the length of that vector.
        num_classes: the number of classes, or None for a model without labels.
    """

    def __init__(self, width: int, num_classes: int | None = None) -> None:
        super().__init__()
        self.features = width - width % 2
        self.time = nn.Sequential(nn.Linear(self.features, width), nn.SiLU(), nn.Linear(width, width))
        self.classes = class_embedding(num_classes, width)

    def forward(self, timesteps: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors ``[B, width]``; ``labels`` None means "no class" for every sample, real ones are embeddings."""
        vector = self.time(timestep_features(timesteps, self.features).to(next(self.time.parameters()).dtype))
        if self.classes is None:
            refuse_labels(labels)
            return vector
        return vector + self.classes(labels_or_none(labels, timesteps, self.classes.num_embeddings - 1))


class LabelEmbedding(nn.Embedding):
    """An embedding of labels that lets embeddings pass, so that a condition can be optimised or mixed."""

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """Rows ``[B, width]`` of whole labels ``[B]``; real values ``[B, width]`` as they are."""
        return labels if labels.is_floating_point() else super().forward(labels)


def class_embedding(num_classes: int | None, width: int) -> LabelEmbedding | None:
    """An embedding with one extra row for "no class", or None."""
    return None if num_classes is None else LabelEmbedding(num_classes + 1, width)


def embed_labels(network: nn.Module, labels: torch.Tensor) -> torch.Tensor:
    """The embeddings ``[B, width]`` that a network of this package has for ``labels``, usable as labels themselves.

    Raises:
        InputError: the network has no classes, or a label is out of range.
    """
    found = [module for module in network.modules() if isinstance(module, LabelEmbedding)]
    if len(found) != 1:
        raise InputError(
            "network", expected="a network of memfast.models with classes", received=type(network).__name__
        )
    if labels.is_floating_point():
        return labels
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < found[0].num_embeddings:
        raise InputError(
            "labels", expected=f"0 to {found[0].num_embeddings - 2}", received=f"{labels.min()} to {labels.max()}"
        )
    return found[0](labels.to(found[0].weight.device)).detach()


def labels_or_none(labels: torch.Tensor | None, timesteps: torch.Tensor, num_classes: int) -> torch.Tensor:
    """``labels``, or the "no class" label ``num_classes`` for every sample."""
    if labels is None:
        return torch.full(timesteps.shape, num_classes, dtype=torch.int64, device=timesteps.device)
    return labels


def refuse_labels(labels: torch.Tensor | None) -> None:
    """Raise where a model without classes is given labels."""
    if labels is not None:
        raise InputError("labels", expected="None: the model has no classes", received="labels", do="Set num_classes.")
