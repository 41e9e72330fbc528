"""SAIL, Jeon et al.'s mitigation: start from noise where the conditional density is not sharp."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from memfast.foundation.arguments import finite_number
from memfast.sampling.branches import branch_difference, first_states, first_step_signature
from memfast.sampling.conditions import joined
from memfast.sampling.descent import Optimised, descend, norms
from memfast.sampling.loop import evaluating
from memfast.sampling.request import SamplingRequest
from memfast.schedules import ContinuousSchedule, Schedule

LEARNING_RATE, ITERATIONS = 0.05, 10
REGULARIZATION = 0.05
# A branch difference of exactly 0 has no direction.
SMALLEST_NORM = 1e-12


@first_step_signature
def optimise_start(
    network: torch.nn.Module,
    schedule: Schedule | ContinuousSchedule,
    labels: torch.Tensor | Sequence[int] | int,
    *,
    threshold: float | None,
    lr: float = LEARNING_RATE,
    iterations: int = ITERATIONS,
    regularization: float = REGULARIZATION,
    **options: Any,
) -> Optimised:
    """Starting noise with a small branch gap one unit step uphill, to be used as ``initial`` of a sampler::

        found = optimise_start(model, schedule, 3, shape=(1, 14, 14), count=4, threshold=2.5)
        samples = ddim(model, schedule, shape=(1, 14, 14), labels=3, initial=found.values, guidance=7.5)

    The loss is ``|d(x + u)|_2 + regularization * |x|_2`` with ``d(x) = eps(x, c) - eps(x)`` and ``u = d(x) / |d(x)|_2``
    at the same x: a finite difference in place of the sharpness that ``memfast.detectors.Jeon`` measures. (The authors'
    code keeps the u of the first iteration.) For VE schedules x is in units of the first level's sigma.

    Args:
        network: one of ``memfast.models`` with classes.
        schedule: as for the sampler.
        labels: as for the sampler.
        threshold: a sample whose loss is at most this is left alone; it depends on the network and on the number of
            values (|x| is about the square root of that). None goes on for all iterations.
        lr: Adam's learning rate.
        iterations: updates at most; many take the start away from a normal distribution.
        regularization: weight of the start's norm; the paper has 0.05 for Stable Diffusion 1, 0.01 for 2.
        options: other fields of ``SamplingRequest``, as for the sampler: shape, count, sample_ids, seed, initial,
            steps, spacing, prediction_type, sigma_data, batch_size, device.

    Returns:
        ``values`` float32 ``[B, *shape]``, already at the first level's scale, and the losses. ``reached`` says which
        came down to the threshold: the paper takes only those, and tries other noise for the rest.

    Source: Jeon et al. 2025 (ICML, arXiv 2412.04140), algorithm 2; Dongjae0324/sharpness_memorization_diffusion,
    mitigate_mem.py. There threshold 8.2 for Stable Diffusion 1.
    """
    request = SamplingRequest(schedule=schedule, labels=labels, **options)
    started = first_states(network, request)

    def difference(part: slice) -> Callable[[torch.Tensor], torch.Tensor]:
        of_state = branch_difference(
            network, started.level, started.conditions[part], prediction_type=request.prediction_type,
            sigma_data=request.sigma_data,
        )  # fmt: skip
        return lambda noise: of_state(started.scale * noise)

    found = []
    with evaluating(network):
        for start in range(0, len(started.noise), request.batch_size):
            part = slice(start, start + request.batch_size)
            found.append(
                flatten_start(
                    difference(part), started.noise[part], threshold=threshold, lr=lr, iterations=iterations,
                    regularization=regularization,
                )
            )  # fmt: skip
    result = joined(found)
    return Optimised(started.scale * result.values, result.first_loss, result.loss, result.iterations, result.reached)


def flatten_start(
    difference: Callable[[torch.Tensor], torch.Tensor],
    noise: torch.Tensor,
    *,
    threshold: float | None,
    lr: float = LEARNING_RATE,
    iterations: int = ITERATIONS,
    regularization: float = REGULARIZATION,
) -> Optimised:
    """The same for any network: ``difference`` maps unit noise ``[B, ...]`` to branch differences ``[B, ...]``."""
    finite_number("lr", lr, above=0)
    finite_number("regularization", regularization, least=0)
    if threshold is not None:
        finite_number("threshold", threshold)

    def losses(x: torch.Tensor) -> torch.Tensor:
        direction = difference(x)
        unit = direction / norms(direction).clamp_min(SMALLEST_NORM).view(-1, *[1] * (x.ndim - 1))
        return norms(difference(x + unit)) + regularization * norms(x)

    return descend(
        losses, noise, lambda values: torch.optim.Adam(values, lr=lr), limit=threshold, iterations=iterations
    )
