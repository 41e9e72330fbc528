"""SAIL, Jeon et al.'s mitigation: start from noise where the conditional density is not sharp."""

from collections.abc import Callable, Sequence

import torch

from memfast.foundation.arguments import finite_number, whole_number
from memfast.sampling.branches import branch_difference, first_states
from memfast.sampling.conditions import joined
from memfast.sampling.descent import Optimised, descend, norms
from memfast.sampling.loop import BATCH_SIZE, evaluating
from memfast.schedules import ContinuousSchedule, Schedule
from memfast.schedules.predictions import SIGMA_DATA

LEARNING_RATE, ITERATIONS = 0.05, 10
REGULARIZATION = 0.05
# A branch difference of exactly 0 has no direction.
SMALLEST_NORM = 1e-12


def optimise_start(
    network: torch.nn.Module,
    schedule: Schedule | ContinuousSchedule,
    labels: torch.Tensor | Sequence[int] | int,
    *,
    shape: Sequence[int],
    threshold: float | None,
    count: int | None = None,
    sample_ids: torch.Tensor | None = None,
    seed: int = 0,
    initial: torch.Tensor | None = None,
    steps: int = 50,
    spacing: str = "trailing",
    prediction_type: str = "epsilon",
    sigma_data: float = SIGMA_DATA,
    lr: float = LEARNING_RATE,
    iterations: int = ITERATIONS,
    regularization: float = REGULARIZATION,
    batch_size: int = BATCH_SIZE,
    device: str | torch.device | None = None,
) -> Optimised:
    """Starting noise with a small branch gap one unit step uphill, to be used as ``initial`` of a sampler::

        found = optimise_start(model, schedule, 3, shape=(1, 14, 14), count=4, threshold=2.5)
        samples = ddim(model, schedule, shape=(1, 14, 14), labels=3, initial=found.values, guidance=7.5)

    The loss is ``|d(x + u)|_2 + regularization * |x|_2`` with ``d(x) = eps(x, c) - eps(x)`` and ``u = d(x) / |d(x)|_2``
    at the same x: a finite difference in place of the sharpness that ``memfast.detectors.Jeon`` measures. (The authors'
    code keeps the u of the first iteration.) For VE schedules x is in units of the first level's sigma.

    Args:
        network: one of ``memfast.models`` with classes.
        schedule: as for the sampler, and so are labels, shape, count, sample_ids, seed, initial, steps, spacing,
            prediction_type, sigma_data, device.
        labels: see schedule.
        shape: see schedule.
        threshold: a sample whose loss is at most this is left alone; it depends on the network and on the number of
            values (|x| is about the square root of that). None goes on for all iterations.
        count: see schedule.
        sample_ids: see schedule.
        seed: see schedule.
        initial: see schedule.
        steps: see schedule.
        spacing: see schedule.
        prediction_type: see schedule.
        sigma_data: see schedule.
        lr: Adam's learning rate.
        iterations: updates at most; many take the start away from a normal distribution.
        regularization: weight of the start's norm; the paper has 0.05 for Stable Diffusion 1, 0.01 for 2.
        batch_size: samples per call of the network.
        device: see schedule.

    Returns:
        ``values`` float32 ``[B, *shape]``, already at the first level's scale, and the losses. ``reached`` says which
        came down to the threshold: the paper takes only those, and tries other noise for the rest.

    Source: Jeon et al. 2025 (ICML, arXiv 2412.04140), algorithm 2; Dongjae0324/sharpness_memorization_diffusion,
    mitigate_mem.py. There threshold 8.2 for Stable Diffusion 1.
    """
    whole_number("batch_size", batch_size, least=1)
    started = first_states(
        network, schedule, labels, shape=shape, count=count, sample_ids=sample_ids, seed=seed, initial=initial,
        steps=steps, spacing=spacing, device=device,
    )  # fmt: skip

    def difference(part: slice) -> Callable[[torch.Tensor], torch.Tensor]:
        of_state = branch_difference(
            network, started.level, started.conditions[part], prediction_type=prediction_type, sigma_data=sigma_data
        )
        return lambda noise: of_state(started.scale * noise)

    found = []
    with evaluating(network):
        for start in range(0, len(started.noise), batch_size):
            part = slice(start, start + batch_size)
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
