"""EDM's log-normal law over sigma."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from memfast.foundation.arguments import finite_number
from memfast.timesteps.density import DEFAULT_T, ContinuousDensity, Vector, checked_fractions
from memfast.timesteps.gaussian import normal_interval, normal_pdf


@dataclass(frozen=True)
class LogNormal(ContinuousDensity):
    """ln(sigma / alpha) ~ N(mean_log, std_log^2) (Karras et al. 2022, table 1: -1.2 and 1.2).

    Args:
        mean_log: P_mean, the mean of ln(sigma).
        std_log: P_std, its standard deviation, above 0.
    """

    name: ClassVar[str] = "log_normal"
    variable: ClassVar[str] = "sigma"
    mean_log: float = -1.2
    std_log: float = 1.2

    def __post_init__(self) -> None:
        finite_number("mean_log", self.mean_log)
        finite_number("std_log", self.std_log, above=0)

    def _pdf(self, x: Vector) -> Vector:
        positive = np.where(x > 0, x, 1.0)
        return np.where(x > 0, normal_pdf(self._z(positive)) / (self.std_log * positive), 0.0)

    def _mass(self, low: Vector, high: Vector) -> Vector:
        return normal_interval(self._z(low), self._z(high))

    def quantile(self, q: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """exp(mean_log + std_log * normal quantile)."""
        return np.exp(self.mean_log + self.std_log * ndtri(checked_fractions(q)))

    def _z(self, x: Vector) -> Vector:
        with np.errstate(divide="ignore"):
            return (np.log(x) - self.mean_log) / self.std_log
