"""The loop that every sampler runs in: the start, the batches, the noise by address, the record of each state."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import nn

from memfast import ops
from memfast.sampling.denoiser import Denoiser, Estimates
from memfast.sampling.request import SamplingRequest
from memfast.sampling.state import Step
from memfast.sampling.steps import Level


@dataclass(frozen=True)
class Move:
    """What a sampler knows when it takes a step.

    Attributes:
        state: ``[B, ...]``, x_t.
        x0: ``[B, ...]``, the clean sample by the network's estimate there.
        noise: ``[B, ...]``, the noise by that estimate.
        level: the state's level.
        following: the level to go to.
        step: the number of the step, from 1: the address of its fresh noise.
        sample_ids: int64 ``[B]``.
        labels: ``[B]`` or ``[B, width]``, or None.
        denoiser: for samplers that ask the network again.
        request: the whole request.
    """

    state: torch.Tensor
    x0: torch.Tensor
    noise: torch.Tensor
    level: Level
    following: Level
    step: int
    sample_ids: torch.Tensor
    labels: torch.Tensor | None
    denoiser: Denoiser
    request: SamplingRequest

    def fresh_noise(self) -> torch.Tensor:
        """The noise of this step, float32 ``[B, ...]``."""
        return fresh_noise(self.sample_ids, self.request.shape, self.request.seed, self.step)


class StepRule(Protocol):
    """How a sampler moves on."""

    def advance(self, move: Move) -> torch.Tensor:
        """The next state."""

    def perturb(
        self, state: torch.Tensor, level: Level, ids: torch.Tensor, step: int, request: SamplingRequest
    ) -> tuple[torch.Tensor, Level]:
        """The state and its level before the network is asked."""


def initial_noise(sample_ids: torch.Tensor, shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    """The standard normal noise that samples start from, float32 ``[B, *shape]``: a function of seed and sample id."""
    return fresh_noise(sample_ids, shape, seed, 0)


def fresh_noise(sample_ids: torch.Tensor, shape: Sequence[int], seed: int, step: int) -> torch.Tensor:
    """The noise that a stochastic sampler adds at step 1, 2, ...; step 0 is the initial noise."""
    numel = int(torch.Size(shape).numel())
    key = ops.key(seed, step).to(sample_ids.device)
    return ops.standard_normal(sample_ids, numel, key, stream="initial").reshape(-1, *shape)


@torch.no_grad()
def run(network: Any, request: SamplingRequest, visited: Sequence[Level], rule: StepRule) -> torch.Tensor:
    """Take every sample from noise to the clean level, batch by batch.

    Args:
        network: as ``Denoiser`` takes it.
        request: what to sample.
        visited: the levels, the noisiest first, the clean one last.
        rule: the sampler.

    Returns:
        float32 ``[B, *shape]``.
    """
    callback = request.callback
    denoiser = Denoiser(
        network, request.prediction_type, request.guidance, request.clip, request.sigma_data,
        both_branches=getattr(callback, "both_branches", False),
    )  # fmt: skip
    device, ids, labels = device_of(network, request.device), request.ids, request.conditions
    finished = []
    with evaluating(network):
        for start in range(0, len(ids), request.batch_size):
            part = slice(start, start + request.batch_size)
            batch_ids = ids[part].to(device)
            batch_labels = None if labels is None else labels[part].to(device)
            if request.initial is None:
                # Unit variance data at a VP schedule's end have unit variance too; a VE schedule starts at sigma.
                state = initial_noise(batch_ids, request.shape, request.seed) * max(1.0, visited[0].sigma)
            else:
                state = request.initial[part].to(device, torch.float32)
            denoiser.begin(len(batch_ids))
            for number, (planned, following) in enumerate(pairwise(visited)):
                state, level = rule.perturb(state, planned, batch_ids, number + 1, request)
                found = denoiser.estimates(state, level, batch_labels, branches=callback is not None)
                if callback is not None:
                    callback(_step(number, level, state, batch_ids, found))
                state = rule.advance(
                    Move(
                        state, found.x0, found.noise, level, following, number + 1, batch_ids, batch_labels, denoiser,
                        request,
                    )
                )  # fmt: skip
            if callback is not None:
                callback(_step(len(visited) - 1, visited[-1], state, batch_ids))
            finished.append(state)
    return torch.cat(finished) if finished else torch.empty(0, *request.shape, device=device)


def device_of(network: Any, device: str | torch.device | None) -> torch.device:
    """The device asked for, or the network's."""
    if device is not None:
        return torch.device(device)
    parameter = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device


@contextmanager
def evaluating(network: Any) -> Iterator[None]:
    """Switch dropout off while sampling, and restore the network's mode afterwards."""
    training = isinstance(network, nn.Module) and network.training
    if training:
        network.eval()
    try:
        yield
    finally:
        if training:
            network.train()


def _step(index: int, level: Level, state: torch.Tensor, ids: torch.Tensor, found: Estimates | None = None) -> Step:
    if found is None:
        return Step(index, level.timestep, level.alpha, level.sigma, state, None, ids)
    return Step(
        index, level.timestep, level.alpha, level.sigma, state, found.x0, ids, found.noise, found.conditional,
        found.unconditional, found.x0_conditional, found.x0_unconditional,
    )  # fmt: skip
