"""The first state of a sampling run, and what the condition does to the network's noise estimate there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from memfast.foundation.errors import InputError
from memfast.models.embedding import embed_labels
from memfast.sampling.denoiser import Denoiser, Network
from memfast.sampling.loop import device_of, ids_of, initial_noise, labels_of
from memfast.sampling.steps import Level, levels
from memfast.schedules import ContinuousSchedule, Schedule
from memfast.schedules.predictions import SIGMA_DATA


def branch_difference(
    network: Network,
    level: Level,
    labels: torch.Tensor,
    *,
    prediction_type: str = "epsilon",
    sigma_data: float = SIGMA_DATA,
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function of a state ``[B, ...]`` that gives conditional minus unconditional noise estimate at ``level``.

    Differentiable in the state (and in ``labels`` where they are embeddings), by reverse and by forward mode.
    """
    denoiser = Denoiser(network, prediction_type, sigma_data=sigma_data, both_branches=True)

    def difference(x: torch.Tensor) -> torch.Tensor:
        found = denoiser.estimates(x, level, labels)
        if found.conditional is None or found.unconditional is None:
            raise InputError("labels", expected="one per sample", received="None")
        return found.conditional - found.unconditional

    return difference


@dataclass(frozen=True)
class FirstStates:
    """Where a sampler of these arguments starts.

    Attributes:
        level: the first noise level.
        scale: what unit noise is multiplied by there; 1 for VP schedules.
        noise: ``[B, *shape]``, unit noise: the states are ``scale * noise``.
        conditions: ``[B, width]``, the labels' embeddings.
    """

    level: Level
    scale: float
    noise: torch.Tensor
    conditions: torch.Tensor


def first_states(
    network: torch.nn.Module,
    schedule: Schedule | ContinuousSchedule,
    labels: torch.Tensor | Sequence[int] | int,
    *,
    shape: Sequence[int],
    count: int | None,
    sample_ids: torch.Tensor | None,
    seed: int,
    initial: torch.Tensor | None,
    steps: int,
    spacing: str,
    device: str | torch.device | None,
) -> FirstStates:
    """The first states of ``ddim`` (or another sampler) with the same arguments."""
    place = device_of(network, device)
    ids = ids_of(count, sample_ids, initial)
    chosen = labels_of(labels, len(ids))
    if chosen is None:
        raise InputError("labels", expected="one per sample: there is no condition to work on", received="None")
    first = levels(schedule, steps, spacing)[0]
    scale = max(1.0, first.sigma)
    if initial is None:
        noise = initial_noise(ids.to(place), shape, seed)
    elif tuple(initial.shape) == (len(ids), *shape):
        noise = initial.to(place, torch.float32) / scale
    else:
        raise InputError("initial", expected=f"shape {[len(ids), *shape]}", received=f"shape {list(initial.shape)}")
    return FirstStates(first, scale, noise, embed_labels(network, chosen.to(place)))
