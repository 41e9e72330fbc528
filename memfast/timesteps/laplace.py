"""A Laplace law over log SNR."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from memfast.foundation.arguments import finite_number
from memfast.timesteps.density import DEFAULT_T, ContinuousDensity, Vector, checked_fractions


@dataclass(frozen=True)
class Laplace(ContinuousDensity):
    """log SNR = mean_log_snr - scale sgn(1/2 - t) ln(1 - 2 |t - 1/2|) for uniform t (Hang et al. 2024, "Improved noise
    schedule for diffusion training"; best at 0 and 0.5). Concentrates on levels where signal and noise are alike.

    Args:
        mean_log_snr: the centre, in log SNR = ln(alpha^2 / sigma^2).
        scale: the mean distance from it, above 0.
    """

    name: ClassVar[str] = "laplace"
    variable: ClassVar[str] = "log_snr"
    mean_log_snr: float = 0.0
    scale: float = 0.5

    def __post_init__(self) -> None:
        finite_number("mean_log_snr", self.mean_log_snr)
        finite_number("scale", self.scale, above=0)

    def _pdf(self, x: Vector) -> Vector:
        return np.exp(-np.abs(x - self.mean_log_snr) / self.scale) / (2 * self.scale)

    def _mass(self, low: Vector, high: Vector) -> Vector:
        a, b = (low - self.mean_log_snr) / self.scale, (high - self.mean_log_snr) / self.scale
        flip = a > 0
        a, b = np.where(flip, -b, a), np.where(flip, -a, b)
        return _cdf(b) - _cdf(a)

    def quantile(self, q: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """The inverse of ``cdf``, in closed form."""
        q = checked_fractions(q)
        with np.errstate(divide="ignore"):
            return self.mean_log_snr + self.scale * np.sign(0.5 - q) * np.log(2 * np.minimum(q, 1 - q))


def _cdf(z: Vector) -> Vector:
    half = 0.5 * np.exp(-np.abs(z))
    return np.where(z < 0, half, 1 - half)
