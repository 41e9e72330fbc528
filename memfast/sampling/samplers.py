"""The samplers: DDIM, DDPM and Heun. Each takes a network from noise to samples, on the noise contract of memfast.

A sample is a function of (network, seed, sample id): neither the batch size nor the number of samples changes it,
beyond what the network's own arithmetic does with the batch size.
"""

import math
from collections.abc import Sequence

import torch

from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.sampling.denoiser import Denoiser, Guidance, Network
from memfast.sampling.loop import BATCH_SIZE, Callback, Move, fresh_noise, run
from memfast.sampling.steps import Level, levels, on_grid
from memfast.schedules import ContinuousSchedule, Schedule
from memfast.schedules.predictions import SIGMA_DATA

DDPM_VARIANCES = ("small", "large")


def ddim(
    network: Network,
    schedule: Schedule | ContinuousSchedule,
    *,
    shape: Sequence[int],
    count: int | None = None,
    sample_ids: torch.Tensor | None = None,
    steps: int = 50,
    seed: int = 0,
    eta: float = 0.0,
    prediction_type: str = "epsilon",
    sigma_data: float = SIGMA_DATA,
    labels: torch.Tensor | Sequence[int] | int | None = None,
    guidance: float | Guidance = 1.0,
    clip: tuple[float, float] | None = None,
    spacing: str = "trailing",
    initial: torch.Tensor | None = None,
    batch_size: int = BATCH_SIZE,
    callback: Callback | None = None,
    device: str | torch.device | None = None,
) -> torch.Tensor:
    """Sample by DDIM (Song et al. 2021, equation 12): ``x' = alpha' x0 + sqrt(sigma'^2 - s^2) noise + s fresh``.

    Args:
        network: called as ``network(x, timesteps)`` or ``network(x, timesteps, labels)``; for VP
            schedules the times are the 0-based timesteps, see ``Level.time``.
        schedule: the schedule it was trained with.
        shape: shape of one sample.
        count: how many samples; their ids are 0, 1, ...
        sample_ids: int64 ``[B]``, the ids themselves; an id makes the same sample in any company.
        steps: calls of the network per sample.
        seed: the seed of all noise.
        eta: 0 is deterministic, 1 has DDPM's variance.
        prediction_type: what the network predicts.
        sigma_data: the data's standard deviation, for ``prediction_type="edm"``.
        labels: a label for all, or one for each sample.
        guidance: classifier-free guidance; 1 is none. Needs a network that takes ``labels=None``. Or a rule that
            changes it along the way.
        clip: the least and greatest value of a clean sample, applied to the estimate at every step, or None. The
            noise estimate then follows from the clipped one.
        spacing: which timesteps to visit, see ``memfast.sampling.levels``.
        initial: ``[B, *shape]`` states to start from in place of noise by address.
        batch_size: samples per call of the network.
        callback: called with a ``Step`` for each state of each batch.
        device: where to compute; by default the network's device.

    Returns:
        float32 ``[count, *shape]``.

    Raises:
        InputError: arguments that do not fit each other.
    """
    finite_number("eta", eta, least=0, greatest=1)

    def advance(move: Move) -> torch.Tensor:
        spread = eta * posterior_std(move.level, move.following)
        kept = math.sqrt(max(0.0, move.following.sigma**2 - spread**2))
        moved = move.following.alpha * move.x0 + kept * move.noise
        return moved + spread * fresh_noise(move.sample_ids, shape, seed, move.step) if spread > 0 else moved

    denoiser = Denoiser(network, prediction_type, guidance, clip, sigma_data)
    return run(
        denoiser, levels(schedule, steps, spacing), advance, shape=shape, count=count, sample_ids=sample_ids,
        seed=seed, labels=labels, initial=initial, batch_size=batch_size, callback=callback, device=device,
    )  # fmt: skip


def ddpm(
    network: Network,
    schedule: Schedule | ContinuousSchedule,
    *,
    shape: Sequence[int],
    count: int | None = None,
    sample_ids: torch.Tensor | None = None,
    steps: int | None = None,
    seed: int = 0,
    variance: str = "small",
    prediction_type: str = "epsilon",
    sigma_data: float = SIGMA_DATA,
    labels: torch.Tensor | Sequence[int] | int | None = None,
    guidance: float | Guidance = 1.0,
    clip: tuple[float, float] | None = None,
    spacing: str = "trailing",
    initial: torch.Tensor | None = None,
    batch_size: int = BATCH_SIZE,
    callback: Callback | None = None,
    device: str | torch.device | None = None,
) -> torch.Tensor:
    """Sample by DDPM's reverse process (Ho et al. 2020, algorithm 2): the mean of q(x_s | x_t, x0) plus fresh noise.

    Args:
        steps: by default every timestep of the schedule.
        variance: ``small`` is q(x_s | x_t, x0)'s own, ``large`` is that of q(x_t | x_s) (Ho's sigma^2 = beta). No noise
            is added in the last step.
        network, schedule, shape, count, sample_ids, seed, prediction_type, sigma_data, labels, guidance, clip, spacing,
            initial, batch_size, callback, device: as for ``ddim``.
    """
    if variance not in DDPM_VARIANCES:
        raise InputError("variance", expected="one of " + ", ".join(DDPM_VARIANCES), received=repr(variance))

    def advance(move: Move) -> torch.Tensor:
        small = posterior_std(move.level, move.following)
        kept = math.sqrt(max(0.0, move.following.sigma**2 - small**2))
        mean = move.following.alpha * move.x0 + kept * move.noise
        if move.following.timestep is None:
            return mean
        spread = small if variance == "small" else math.sqrt(transition_variance(move.level, move.following))
        return mean + spread * fresh_noise(move.sample_ids, shape, seed, move.step)

    denoiser = Denoiser(network, prediction_type, guidance, clip, sigma_data)
    visited = levels(schedule, len(on_grid(schedule)) if steps is None else steps, spacing)
    return run(
        denoiser, visited, advance, shape=shape, count=count,
        sample_ids=sample_ids, seed=seed, labels=labels, initial=initial, batch_size=batch_size, callback=callback,
        device=device,
    )  # fmt: skip


def heun(
    network: Network,
    schedule: Schedule | ContinuousSchedule,
    *,
    shape: Sequence[int],
    count: int | None = None,
    sample_ids: torch.Tensor | None = None,
    steps: int = 18,
    seed: int = 0,
    prediction_type: str = "epsilon",
    sigma_data: float = SIGMA_DATA,
    labels: torch.Tensor | Sequence[int] | int | None = None,
    guidance: float | Guidance = 1.0,
    clip: tuple[float, float] | None = None,
    spacing: str = "karras",
    initial: torch.Tensor | None = None,
    batch_size: int = BATCH_SIZE,
    callback: Callback | None = None,
    device: str | torch.device | None = None,
) -> torch.Tensor:
    """Sample the probability flow ODE by Heun's rule (Karras et al. 2022, algorithm 1, no churn).

    In ``y = x / alpha`` and ``s = sigma / alpha`` every schedule's ODE is ``dy/ds = noise estimate``. The last step, to
    the clean level, and a step from a level without signal are Euler's (that is, DDIM's).

    Args:
        steps: steps; the network is called ``2 * steps - 1`` times.
        spacing: by default the timesteps nearest to EDM's levels; levels are always those of the schedule, so that a
            network trained on whole timesteps is only ever asked about those.
        network, schedule, shape, count, sample_ids, seed, prediction_type, sigma_data, labels, guidance, clip, initial,
            batch_size, callback, device: as for ``ddim``.
    """
    denoiser = Denoiser(network, prediction_type, guidance, clip, sigma_data)

    def advance(move: Move) -> torch.Tensor:
        level, following = move.level, move.following
        euler = following.alpha * move.x0 + following.sigma * move.noise
        if following.timestep is None or level.alpha == 0.0:
            return euler
        _, second = denoiser(euler, following, move.labels)
        ratio = following.alpha / level.alpha
        return ratio * move.state + (following.sigma - ratio * level.sigma) * 0.5 * (move.noise + second)

    return run(
        denoiser, levels(schedule, steps, spacing), advance, shape=shape, count=count, sample_ids=sample_ids,
        seed=seed, labels=labels, initial=initial, batch_size=batch_size, callback=callback, device=device,
    )  # fmt: skip


def transition_variance(level: Level, following: Level) -> float:
    """The variance of q(x_t | x_s) for the level t and the less noisy level s that follows it in sampling."""
    return max(0.0, level.sigma**2 - (level.alpha / following.alpha) ** 2 * following.sigma**2)


def posterior_std(level: Level, following: Level) -> float:
    """The standard deviation of q(x_s | x_t, x0)."""
    return following.sigma * math.sqrt(transition_variance(level, following)) / level.sigma
