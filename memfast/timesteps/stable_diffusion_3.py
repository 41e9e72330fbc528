"""The three densities over the flow's time of Stable Diffusion 3 (Esser et al. 2024, section 3.1)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit, ndtri

from memfast.foundation.arguments import finite_number
from memfast.timesteps.density import DEFAULT_T, ContinuousDensity, Vector, bisect, checked_fractions
from memfast.timesteps.gaussian import normal_interval, normal_pdf

# Beyond it the mode map is no longer monotone.
LARGEST_MODE_SCALE = 2 / (np.pi - 2)


@dataclass(frozen=True)
class LogitNormal(ContinuousDensity):
    """u = sigmoid(N(location, scale^2)) (equation 19; diffusers' ``logit_normal``). A larger location is noisier.

    Args:
        location: the mean of logit(u).
        scale: its standard deviation, above 0.
    """

    name: ClassVar[str] = "logit_normal"
    variable: ClassVar[str] = "time"
    location: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        finite_number("location", self.location)
        finite_number("scale", self.scale, above=0)

    def _pdf(self, x: Vector) -> Vector:
        inside = (x > 0) & (x < 1)
        u = np.where(inside, x, 0.5)
        return np.where(inside, normal_pdf((logit(u) - self.location) / self.scale) / (self.scale * u * (1 - u)), 0.0)

    def _mass(self, low: Vector, high: Vector) -> Vector:
        return normal_interval((logit(low) - self.location) / self.scale, (logit(high) - self.location) / self.scale)

    def quantile(self, q: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """sigmoid(location + scale * normal quantile)."""
        return expit(self.location + self.scale * ndtri(checked_fractions(q)))


@dataclass(frozen=True)
class Mode(ContinuousDensity):
    """u = 1 - v - scale (cos^2(pi v / 2) - 1 + v) for uniform v (equation 20; diffusers' ``mode``).

    Args:
        scale: from -1 to 2 / (pi - 2) = 1.75; above 0 favours the middle, below 0 both ends, 0 is uniform. 1.29 is the
            value most used.
    """

    name: ClassVar[str] = "mode"
    variable: ClassVar[str] = "time"
    scale: float = 1.29

    def __post_init__(self) -> None:
        finite_number("scale", self.scale, least=-1, greatest=LARGEST_MODE_SCALE)

    def _pdf(self, x: Vector) -> Vector:
        w = self._upward(np.asarray(x, dtype=np.float64))
        steepness = 1 + self.scale * (1 - np.pi / 2 * np.sin(np.pi * w))
        with np.errstate(divide="ignore"):
            return 1 / steepness

    def _mass(self, low: Vector, high: Vector) -> Vector:
        return self._upward(high) - self._upward(low)

    def quantile(self, q: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """The map itself, upwards: q + scale (q - sin^2(pi q / 2))."""
        w = checked_fractions(q)
        return w + self.scale * (w - np.sin(np.pi * w / 2) ** 2)

    def _upward(self, x: Vector) -> Vector:
        """The fraction w = 1 - v whose time is x."""
        return bisect(self.quantile, np.asarray(x), 0.0, 1.0)


@dataclass(frozen=True)
class CosMap(ContinuousDensity):
    """p(u) = 2 / (pi - 2 pi u + 2 pi u^2), so that u's log SNR follows the cosine schedule's (equation 21)."""

    name: ClassVar[str] = "cosmap"
    variable: ClassVar[str] = "time"

    def _pdf(self, x: Vector) -> Vector:
        return 2 / (np.pi * (1 - 2 * x + 2 * x * x))

    def _mass(self, low: Vector, high: Vector) -> Vector:
        return 2 / np.pi * (np.arctan2(high, 1 - high) - np.arctan2(low, 1 - low))

    def quantile(self, q: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """sin(a) / (sin(a) + cos(a)) with a = pi q / 2."""
        a = np.pi / 2 * checked_fractions(q)
        return np.sin(a) / (np.sin(a) + np.cos(a))
