"""What every sampler shares: the start, the batches, the noise by address, the record of each state."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from memfast import ops
from memfast.foundation.arguments import seed_number, whole_number
from memfast.foundation.errors import InputError
from memfast.ops.addresses import check_sample_ids
from memfast.sampling.denoiser import Denoiser, Estimates
from memfast.sampling.steps import Level

BATCH_SIZE = 256


@dataclass(frozen=True)
class Step:
    """One state of a sampling run, as callbacks receive it: ``steps + 1`` of them for every batch.

    Attributes:
        index: 0 for the initial noise, up to ``steps`` for the finished sample.
        timestep: the state's timestep (0-based), None for the finished sample.
        alpha: the signal's share at this state's own level.
        sigma: the noise's share there.
        state: ``[B, ...]``, x_t.
        x0_hat: ``[B, ...]``, the clean sample that the network sees in this state; None for the finished sample.
        sample_ids: int64 ``[B]``.
        noise_hat: ``[B, ...]``, the noise that goes with ``x0_hat``: the guided estimate. None for the finished sample.
        conditional: ``[B, ...]``, the noise estimate with the labels alone; None without labels.
        unconditional: ``[B, ...]``, the noise estimate without labels; None where the network was not asked for it.
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

    @property
    def alpha_bar(self) -> float:
        """alpha**2 of this state (diffusers' ``alphas_cumprod``)."""
        return self.alpha**2


# A callback that has an attribute ``both_branches`` set to True also gets the unconditional estimate at guidance 1.
Callback = Callable[[Step], None]


@dataclass(frozen=True)
class Move:
    """What a sampler knows when it takes a step: the state, the network's estimates there, and where to go."""

    state: torch.Tensor
    x0: torch.Tensor
    noise: torch.Tensor
    level: Level
    following: Level
    step: int
    sample_ids: torch.Tensor
    labels: torch.Tensor | None


Advance = Callable[[Move], torch.Tensor]


def initial_noise(sample_ids: torch.Tensor, shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    """The standard normal noise that samples start from, float32 ``[B, *shape]``: a function of seed and sample id."""
    return fresh_noise(sample_ids, shape, seed, 0)


def fresh_noise(sample_ids: torch.Tensor, shape: Sequence[int], seed: int, step: int) -> torch.Tensor:
    """The noise that a stochastic sampler adds at step 1, 2, ...; step 0 is the initial noise."""
    numel = int(torch.Size(shape).numel())
    key = ops.key(seed, step).to(sample_ids.device)
    return ops.standard_normal(sample_ids, numel, key, stream="initial").reshape(-1, *shape)


@torch.no_grad()
def run(
    denoiser: Denoiser,
    levels: list[Level],
    advance: Advance,
    *,
    shape: Sequence[int],
    count: int | None,
    sample_ids: torch.Tensor | None,
    seed: int,
    labels: torch.Tensor | Sequence[int] | int | None,
    initial: torch.Tensor | None,
    batch_size: int,
    callback: Callback | None,
    device: str | torch.device | None,
) -> torch.Tensor:
    """Take every sample from noise to the clean level, batch by batch. Arguments as ``ddim``'s."""
    device = device_of(denoiser.network, device)
    ids = ids_of(count, sample_ids, initial)
    every_label = labels_of(labels, len(ids))
    whole_number("batch_size", batch_size, least=1)
    seed_number("seed", seed)
    for side in shape:
        whole_number("shape", side, least=1)
    if initial is not None and tuple(initial.shape) != (len(ids), *shape):
        raise InputError("initial", expected=f"shape {[len(ids), *shape]}", received=f"shape {list(initial.shape)}")
    denoiser.both_branches = denoiser.both_branches or getattr(callback, "both_branches", False)
    finished = []
    with evaluating(denoiser.network):
        for start in range(0, len(ids), batch_size):
            part = slice(start, start + batch_size)
            batch_ids = ids[part].to(device)
            batch_labels = None if every_label is None else every_label[part].to(device)
            if initial is None:
                # Unit variance data at a VP schedule's end have unit variance too; a VE schedule starts at sigma.
                state = initial_noise(batch_ids, shape, seed) * max(1.0, levels[0].sigma)
            else:
                state = initial[part].to(device, torch.float32)
            denoiser.begin(len(batch_ids))
            for number, (level, following) in enumerate(pairwise(levels)):
                found = denoiser.estimates(state, level, batch_labels, branches=callback is not None)
                _tell(callback, number, level, state, found, batch_ids)
                state = advance(
                    Move(state, found.x0, found.noise, level, following, number + 1, batch_ids, batch_labels)
                )
            _tell(callback, len(levels) - 1, levels[-1], state, None, batch_ids)
            finished.append(state)
    return torch.cat(finished) if finished else torch.empty(0, *shape, device=device)


def device_of(network: Any, device: str | torch.device | None) -> torch.device:
    """The device asked for, or the network's."""
    if device is not None:
        return torch.device(device)
    parameter = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device


def ids_of(count: int | None, sample_ids: torch.Tensor | None, initial: torch.Tensor | None) -> torch.Tensor:
    """The sample ids asked for, or 0, 1, ...; int64 ``[B]``."""
    if sample_ids is not None:
        check_sample_ids(sample_ids)
        if count is not None and count != len(sample_ids):
            raise InputError("count", expected=f"{len(sample_ids)}, one per sample id, or None", received=str(count))
        return sample_ids
    if count is None and initial is not None:
        count = len(initial)
    if count is None:
        raise InputError("count", expected="how many samples to draw, or sample_ids", received="None")
    return torch.arange(whole_number("count", count, least=0))


def labels_of(labels: torch.Tensor | Sequence[int] | int | None, count: int) -> torch.Tensor | None:
    """One label per sample, int64 ``[B]``; or one embedding of a condition per sample, float ``[B, width]``."""
    if labels is None:
        return None
    values = torch.as_tensor(labels)
    if values.is_floating_point() and values.ndim == 2 and len(values) == count:
        return values
    if values.is_floating_point() and not (values == values.round()).all():
        raise InputError("labels", expected="whole numbers, or [B, width] embeddings", received=str(values)[:80])
    values = values.to(torch.int64)
    values = values.expand(count) if values.ndim == 0 else values
    if values.shape != (count,):
        raise InputError("labels", expected=f"one label, or {count} of them", received=f"shape {list(values.shape)}")
    return values


@contextmanager
def evaluating(network: Any) -> Iterator[None]:
    """Dropout off while sampling, and back as it was."""
    training = isinstance(network, nn.Module) and network.training
    if training:
        network.eval()
    try:
        yield
    finally:
        if training:
            network.train()


def _tell(
    callback: Callback | None,
    index: int,
    level: Level,
    state: torch.Tensor,
    found: Estimates | None,
    ids: torch.Tensor,
) -> None:
    if callback is None:
        return
    if found is None:
        callback(Step(index, level.timestep, level.alpha, level.sigma, state, None, ids))
        return
    callback(
        Step(
            index, level.timestep, level.alpha, level.sigma, state, found.x0, ids, found.noise, found.conditional,
            found.unconditional,
        )
    )  # fmt: skip
