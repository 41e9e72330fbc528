"""One state of a sampling run, as callbacks receive it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Step:
    """One state of a sampling run, as callbacks receive it: ``steps + 1`` of them for every batch.

    Attributes:
        index: 0 for the initial noise, up to ``steps`` for the finished sample.
        timestep: the state's timestep (0-based), None for the finished sample.
        alpha: the signal's share at this state's own level.
        sigma: the noise's share there.
        state: ``[B, ...]``, x_t.
        x0_hat: ``[B, ...]``, the clean sample that the sampler goes by, guided and clipped; None for the finished
            sample.
        sample_ids: int64 ``[B]``.
        noise_hat: ``[B, ...]``, the guided noise estimate that the sampler goes by. None for the finished sample.
        conditional: ``[B, ...]``, the noise estimate with the labels alone; None without labels.
        unconditional: ``[B, ...]``, the noise estimate without labels; None where the network was not asked for it.
        x0_conditional: ``[B, ...]``, the clean sample that belongs to ``conditional``. Where alpha is 0 the noise
            estimate is the state itself whatever the network says, and only this one tells conditions apart.
        x0_unconditional: ``[B, ...]``, the one that belongs to ``unconditional``.
    """

    index: int
    timestep: int | None
    alpha: float
    sigma: float
    state: torch.Tensor
    x0_hat: torch.Tensor | None
    sample_ids: torch.Tensor
    noise_hat: torch.Tensor | None = None
    conditional: torch.Tensor | None = None
    unconditional: torch.Tensor | None = None
    x0_conditional: torch.Tensor | None = None
    x0_unconditional: torch.Tensor | None = None

    @property
    def alpha_bar(self) -> float:
        """alpha**2 of this state (diffusers' ``alphas_cumprod``)."""
        return self.alpha**2


# A callback that has an attribute ``both_branches`` set to True also gets the unconditional estimate at guidance 1.
Callback = Callable[[Step], None]
