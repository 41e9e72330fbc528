"""How much each timestep teaches: C(t) = SNR(t) * p(t), and how it moves with the density."""

from typing import Protocol

import numpy as np

from memfast.timesteps.density import Density, NoiseLevels, Vector


class SignalToNoise(NoiseLevels, Protocol):
    """A schedule, as far as learning looks at it: its SNR too."""

    @property
    def snr(self) -> Vector:
        """float64 ``[T]``."""
        ...


def learning_contribution(schedule: SignalToNoise, density: Density) -> Vector:
    """C(t) = SNR(t) * p(t) (arXiv 2601.21348): float64 ``[T]``; large where a model both learns often and sees much.

    >>> from memfast.schedules import linear
    >>> from memfast.timesteps import Uniform
    >>> round(float(learning_contribution(linear(1000), Uniform())[0]), 3)
    9.999
    """
    return np.asarray(schedule.snr) * density.probabilities(schedule)


def learning_contribution_slope(schedule: SignalToNoise, density: Density) -> Vector:
    """dC/dmu: float64 ``[T]``, the change of C(t) as the density moves along its axis, per unit of the axis.

    For a Gaussian over timesteps SNR(t) (t - mu) / sigma^2 p(t), the paper's formula, integrated over each cell.
    """
    return np.asarray(schedule.snr) * density.slope(schedule)
