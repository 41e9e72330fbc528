"""Student's t over the timesteps: a focus with heavy tails."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import gammaln, stdtr

from memfast.foundation.arguments import finite_number
from memfast.timesteps.density import ContinuousDensity, Vector


@dataclass(frozen=True)
class StudentT(ContinuousDensity):
    """Student's t with location and scale in timesteps, cut to [1/2, T + 1/2] and renormalised. Few degrees of freedom
    leave far timesteps some training without a uniform part; many approach the Gaussian.

    Args:
        center: the location, in timesteps; it may lie outside 1..T.
        scale: the scale, in timesteps, above 0.
        df: degrees of freedom, above 0.
    """

    name: ClassVar[str] = "student_t"
    center: float
    scale: float
    df: float = 3.0

    def __post_init__(self) -> None:
        finite_number("center", self.center)
        finite_number("scale", self.scale, above=0)
        finite_number("df", self.df, above=0)

    def _pdf(self, x: Vector) -> Vector:
        z = (x - self.center) / self.scale
        constant = gammaln((self.df + 1) / 2) - gammaln(self.df / 2) - 0.5 * np.log(self.df * np.pi)
        return np.exp(constant - (self.df + 1) / 2 * np.log1p(z * z / self.df)) / self.scale

    def _mass(self, low: Vector, high: Vector) -> Vector:
        a, b = (low - self.center) / self.scale, (high - self.center) / self.scale
        flip = a > 0
        return stdtr(self.df, np.where(flip, -a, b)) - stdtr(self.df, np.where(flip, -b, a))
