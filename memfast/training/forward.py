"""From a batch to its loss: items -> augmentation -> noise -> network -> loss. This is the part that is compiled."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from memfast.foundation.errors import InputError
from memfast.models import ItemFormat
from memfast.ops.addresses import WORD
from memfast.training.data import LoadedBatch, first_words

# Compilation takes some seconds to a minute: a run shorter than this on a GPU would not win them back.
LEAST_STEPS_TO_COMPILE = 2000


@dataclass(frozen=True)
class Conditions:
    """What a step does to its items before the noise.

    Attributes:
        hflip: flip half of the images from left to right.
        noise_first: add an ambient objective's fixed noise before the flip, which then flips it too.
        dropout: the share of labels replaced by "no class".
        num_classes: the number of classes, whose value as a label means "no class"; or None.
    """

    hflip: bool = False
    dropout: float = 0.0
    num_classes: int | None = None
    noise_first: bool = False


class Forward(nn.Module):
    """From items to the loss: the part that is compiled.

    Every random number in it is addressed by ``key`` = (seed, step) and the sample id, so that a captured graph may be
    replayed with another key.
    """

    def __init__(
        self, model: nn.Module, objective: Any, form: ItemFormat, conditions: Conditions, *, autocast: bool = False
    ) -> None:
        super().__init__()
        self.model, self.objective, self.form, self.conditions = model, objective, form, conditions
        self.autocast = autocast

    def forward(
        self, items: LoadedBatch, key: torch.Tensor, reduction: str = "mean"
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """The loss, a scalar; with ``reduction="none"`` the losses ``[B]`` and the batch."""
        batch, prediction = self.predict(items, key)
        loss = self.objective.loss(prediction, batch, reduction=reduction)
        return loss if reduction == "mean" else (loss, batch)

    def predict(self, items: LoadedBatch, key: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """The noised batch and the network's prediction."""
        x0, labels, noisy = self.form.to_network(items.values), items.labels, None
        if self.conditions.noise_first:
            noisy = self.objective.noisy(x0, items.indices, key)
        if self.conditions.hflip:
            words = first_words(items.sample_ids, key, "augmentation")[:, 0] & 1
            flip = words.bool().view(-1, *[1] * (x0.ndim - 1))
            x0 = torch.where(flip, x0.flip(-1), x0)
            noisy = None if noisy is None else torch.where(flip, noisy.flip(-1), noisy)
        if labels is not None and self.conditions.dropout > 0:
            words = first_words(items.sample_ids, key, "condition")[:, 0]
            dropped = words < round(self.conditions.dropout * (WORD + 1))
            labels = torch.where(dropped, self.conditions.num_classes or 0, labels)
        batch = self.objective.noise(
            x0, items.sample_ids, key, items.indices, positions=items.positions, total=items.total, noisy_x0=noisy
        )
        with torch.autocast(x0.device.type, torch.bfloat16) if self.autocast else nullcontext():
            if labels is None:
                prediction = self.model(batch.x_t, batch.time)
            else:
                prediction = self.model(batch.x_t, batch.time, labels)
        if not isinstance(prediction, torch.Tensor):
            raise InputError(
                "model", expected="a network that returns a tensor", received=type(prediction).__name__,
                do="Wrap it in an nn.Module whose forward(x, timesteps, labels=None) returns the tensor, for example "
                "self.network(x, timesteps).sample.",
            )  # fmt: skip
        return batch, prediction


def choose_compile(wanted: bool | str, device: torch.device, steps: int) -> bool:
    """Whether to compile.

    ``"auto"`` compiles on a GPU for runs of at least ``LEAST_STEPS_TO_COMPILE`` steps, never on a CPU: a rule of the
    arguments alone, because a choice by the clock would make two runs of one seed differ in the last bits.

    Raises:
        InputError: ``wanted`` is neither a bool nor ``"auto"``.
    """
    if isinstance(wanted, bool):
        return wanted
    if wanted != "auto":
        raise InputError("compile", expected="True, False or 'auto'", received=repr(wanted))
    return device.type == "cuda" and steps >= LEAST_STEPS_TO_COMPILE


def compiled(module: nn.Module) -> nn.Module:
    """``module`` compiled for one batch shape; the parameters stay those of ``module``."""
    return cast(nn.Module, torch.compile(module, dynamic=False))
