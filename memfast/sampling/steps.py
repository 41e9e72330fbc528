"""Which timesteps a sampler visits, and the noise levels there."""

from dataclasses import dataclass

import numpy as np
import torch

from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.schedules import ContinuousSchedule, Schedule

SPACINGS = ("trailing", "leading", "linspace", "karras")
KARRAS_RHO = 7.0
CONTINUOUS_LEVELS = 1000
TIME_SCALE = 1000.0


@dataclass(frozen=True)
class Level:
    """A noise level.

    Attributes:
        timestep: its 0-based row in the schedule, or None for the clean level at the end.
        time: what the network is told of it: the row for a VP schedule, ln(sigma) / 4 for a VE one (EDM's c_noise),
            1000 times the time in (0, 1) for flow, as the objective tells it in training.
        alpha: the signal's share.
        sigma: the noise's share.
    """

    timestep: int | None
    time: int | float
    alpha: float
    sigma: float

    @property
    def alpha_bar(self) -> float:
        """alpha**2."""
        return self.alpha**2


CLEAN = Level(None, 0, 1.0, 0.0)


def levels(schedule: Schedule | ContinuousSchedule, steps: int, spacing: str = "trailing") -> list[Level]:
    """The levels of a run of ``steps`` steps: most noise first, the clean level last, ``steps + 1`` in all.

    Args:
        schedule: the noise schedule; a continuous one is sampled on ``CONTINUOUS_LEVELS`` levels, even in its time.
        steps: from 1 to T.
        spacing: ``trailing`` (equal strides, the noisiest timestep included), ``leading`` (equal strides, the least
            noisy one included), ``linspace`` (both), each as in diffusers; ``karras`` (the timesteps nearest to equal
            strides of (sigma / alpha)**(1/7), Karras et al. 2022, equation 5, each used once).

    Raises:
        InputError: more steps than timesteps, or an unknown spacing.
    """
    rows = on_grid(schedule)
    total = len(rows)
    whole_number("steps", steps, least=1, greatest=total, do=f"The schedule has {total} timesteps.")
    if spacing not in SPACINGS:
        raise InputError("spacing", expected="one of " + ", ".join(SPACINGS), received=repr(spacing))
    return [*_levels_of(schedule, _timesteps(rows, steps, spacing)), CLEAN]


def level_at(schedule: Schedule | ContinuousSchedule, row: int) -> Level:
    """The level of one row of a schedule; of a continuous one, of the ``CONTINUOUS_LEVELS`` levels on its grid."""
    return _levels_of(schedule, np.array([row]))[0]


def nearest_row(rows: Schedule, ratio: float) -> int:
    """The row whose sigma / alpha is nearest to ``ratio`` (above 0), in its logarithm; rows without signal aside."""
    log_ratios = -0.5 * rows.log_snr[np.isfinite(rows.log_snr)]
    return int(np.argmin(np.abs(log_ratios - np.log(ratio))))


def on_grid(schedule: Schedule | ContinuousSchedule) -> Schedule:
    """The schedule itself, or ``CONTINUOUS_LEVELS`` levels of a continuous one."""
    if isinstance(schedule, Schedule):
        return schedule
    time = (torch.arange(CONTINUOUS_LEVELS, dtype=torch.float64) + 1) / (CONTINUOUS_LEVELS + 1)
    alpha, sigma = (values.numpy() for values in schedule.at_time(time))
    return Schedule(schedule.name, schedule.family, alpha, sigma, 2 * (np.log(alpha) - np.log(sigma)))


def _levels_of(schedule: Schedule | ContinuousSchedule, chosen: np.ndarray) -> list[Level]:
    rows = on_grid(schedule)
    times = _network_times(rows, continuous=rows is not schedule)
    return [Level(int(t), times[t].item(), float(rows.alpha[t]), float(rows.sigma[t])) for t in chosen]


def _network_times(schedule: Schedule, *, continuous: bool) -> np.ndarray:
    if schedule.family == "ve":
        return np.log(schedule.sigma) / 4
    if schedule.family == "flow":
        return TIME_SCALE * schedule.sigma / (schedule.alpha + schedule.sigma)
    if continuous:
        return TIME_SCALE * 2 / np.pi * np.arctan2(schedule.sigma, schedule.alpha)
    return np.arange(len(schedule))


def _timesteps(schedule: Schedule, steps: int, spacing: str) -> np.ndarray:
    total = len(schedule)
    if spacing == "trailing":
        # Computed from whole numbers: np.arange with a fractional stride may give one element too many.
        return np.round(total - np.arange(steps) * (total / steps)).astype(np.int64) - 1
    if spacing == "leading":
        return (np.arange(steps) * (total // steps))[::-1]
    if spacing == "linspace":
        return np.round(np.linspace(0, total - 1, steps))[::-1].astype(np.int64)
    with np.errstate(divide="ignore"):
        ratio = np.exp(-0.5 * schedule.log_snr)
    finite = ratio[np.isfinite(ratio)]
    low, high = finite[0] ** (1 / KARRAS_RHO), finite[-1] ** (1 / KARRAS_RHO)
    wanted = np.log(np.linspace(high, low, steps) ** KARRAS_RHO)
    return _distinct_nearest(np.log(finite), wanted)


def _distinct_nearest(rising: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """For each of ``wanted`` (falling) the index of the nearest of ``rising``, no index twice."""
    right = np.clip(np.searchsorted(rising, wanted), 1, max(1, len(rising) - 1))
    left = right - 1
    right = np.minimum(right, len(rising) - 1)
    chosen = np.where(np.abs(rising[left] - wanted) <= np.abs(rising[right] - wanted), left, right)
    for place in range(1, len(chosen)):
        chosen[place] = min(chosen[place], chosen[place - 1] - 1)
    # Pushed below the first row by the rule above: shift the tail up again, still without a repetition.
    floor = np.arange(len(chosen))[::-1]
    return np.maximum(chosen, floor)
