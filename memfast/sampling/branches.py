"""The first state of a sampling run, and what the condition does to the network's estimate there."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from memfast.foundation.errors import InputError
from memfast.models.embedding import embed_labels
from memfast.sampling.denoiser import Denoiser, Network, branch_estimate
from memfast.sampling.loop import device_of, initial_noise
from memfast.sampling.request import SamplingRequest, takes_request
from memfast.sampling.samplers import DDIM
from memfast.sampling.steps import Level
from memfast.schedules.predictions import SIGMA_DATA

# A mitigation's request lacks what only a finished run needs. Its steps and spacing are DDIM's, if it says none.
first_step_signature = takes_request(
    without=("labels", "guidance", "clip", "callback"),
    defaults={"steps": DDIM.default_steps, "spacing": DDIM.default_spacing},
)


def branch_difference(
    network: Network,
    level: Level,
    labels: torch.Tensor,
    *,
    prediction_type: str = SamplingRequest.prediction_type,
    sigma_data: float = SIGMA_DATA,
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function of a state ``[B, ...]`` that gives conditional minus unconditional noise estimate at ``level``.

    At a level without signal (alpha = 0) the two noise estimates are equal whatever the network says: there it is
    unconditional minus conditional clean estimate. Differentiable in the state (and in ``labels`` where they are
    embeddings), by reverse and by forward mode.
    """
    denoiser = Denoiser(network, prediction_type, sigma_data=sigma_data, both_branches=True)

    def difference(x: torch.Tensor) -> torch.Tensor:
        found = denoiser.estimates(x, level, labels)
        if found.conditional is None or found.unconditional is None:
            raise InputError("labels", expected="one per sample", received="None")
        if found.x0_conditional is None or found.x0_unconditional is None:
            raise InputError("labels", expected="one per sample", received="None")
        return branch_estimate(found.x0_conditional, found.conditional, level.alpha) - branch_estimate(
            found.x0_unconditional, found.unconditional, level.alpha
        )

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


def first_states(network: torch.nn.Module, request: SamplingRequest) -> FirstStates:
    """The first states of a sampler with the same request."""
    place = device_of(network, request.device)
    if request.conditions is None:
        raise InputError("labels", expected="one per sample: there is no condition to work on", received="None")
    # The other samplers' first level is the same: every spacing that starts at the noisiest timestep has it.
    first = DDIM().levels(request)[0]
    scale = max(1.0, first.sigma)
    if request.initial is None:
        noise = initial_noise(request.ids.to(place), request.shape, request.seed)
    else:
        noise = request.initial.to(place, torch.float32) / scale
    return FirstStates(first, scale, noise, embed_labels(network, request.conditions.to(place)))
