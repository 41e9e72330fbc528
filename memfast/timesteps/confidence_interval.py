"""Learning concentrated on an interval of timesteps: a Gaussian of which a stated share lies between two bounds."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.timesteps.density import (
    DEFAULT_T,
    Density,
    Grid,
    Vector,
    bisect,
    checked_fractions,
    grid_length,
    no_mass,
)  # fmt: skip
from memfast.timesteps.gaussian import normal_interval, normal_pdf

TAILS = ("uniform", "renormalize", "clamp")
# A density of which less than this lies on the timesteps is not what its bounds say.
LEAST_INSIDE = 0.25


@dataclass(frozen=True)
class ConfidenceInterval(Density):
    """Confidence-interval timestep sampling (arXiv 2601.21348): t ~ N(mu, scale^2) with mu = (low + high) / 2 and
    scale = (high - low) / (2 z), z = the normal quantile of (1 + coverage) / 2, mixed with the uniform density.

    p(t) = mix * p_cut(t) + (1 - mix) / T, each probability the integral over [t - 1/2, t + 1/2]. Later timesteps are
    noisier. The paper states neither the mixture's share nor what becomes of the mass outside 1..T; the choices are
    arguments here.

    Args:
        low: lower bound in timesteps; it may lie outside 1..T.
        high: upper bound, above ``low``; it may lie outside 1..T.
        coverage: the share of the uncut Gaussian between the bounds, in (0, 1); the paper's is 0.5.
        tails: what becomes of the mass outside 1..T: ``"uniform"`` spreads it over all timesteps, ``"renormalize"``
            cuts it off (an ordinary truncated normal), ``"clamp"`` gives it to timesteps 1 and T.
        mix: the Gaussian's share, in [0, 1]; the rest is uniform. None: the mass inside 1..T for ``"uniform"`` (so the
            tail's mass is what is spread), 1 for the others.
        uniform_floor: the least share of the uniform part, in [0, 1]: an interval well inside 1..T has next to no tail
            to spread, and far timesteps would get no training at all.

    Raises:
        InputError: bounds that are reversed or equal, or a number outside its range.

    >>> late = ConfidenceInterval(low=950, high=1050)
    >>> round(late.mean(1000)), round(float(late.probabilities(1000)[949:].sum()), 3)
    (722, 0.28)
    """

    name: ClassVar[str] = "confidence_interval"
    low: float
    high: float
    coverage: float = 0.5
    tails: str = "uniform"
    mix: float | None = None
    uniform_floor: float = 0.0

    def __post_init__(self) -> None:
        finite_number("low", self.low)
        finite_number("high", self.high)
        if not self.low < self.high:
            raise InputError(
                "low, high", expected="low below high (a width above 0)", received=f"low={self.low}, high={self.high}",
                do="Use ConfidenceInterval.from_mean_width(mean, width) to give a centre and a width.",
            )  # fmt: skip
        finite_number("coverage", self.coverage, above=0, below=1)
        if self.tails not in TAILS:
            raise InputError("tails", expected="one of " + ", ".join(TAILS), received=repr(self.tails))
        finite_number("uniform_floor", self.uniform_floor, least=0, greatest=1)
        if self.mix is not None:
            finite_number("mix", self.mix, least=0, greatest=1)

    @classmethod
    def from_mean_width(
        cls,
        mean: float,
        width: float,
        coverage: float = 0.5,
        tails: str = "uniform",
        mix: float | None = None,
        uniform_floor: float = 0.0,
    ) -> "ConfidenceInterval":
        """The interval from mean - width / 2 to mean + width / 2."""
        finite_number("mean", mean)
        finite_number("width", width, above=0)
        return cls(mean - width / 2, mean + width / 2, coverage, tails, mix, uniform_floor)

    @property
    def mu(self) -> float:
        """The Gaussian's mean, before it is cut."""
        return (self.low + self.high) / 2

    @property
    def scale(self) -> float:
        """The Gaussian's standard deviation, before it is cut."""
        return float((self.high - self.low) / (2 * ndtri((1 + self.coverage) / 2)))

    def inside(self, grid: Grid = DEFAULT_T) -> float:
        """The share of the uncut Gaussian that lies on the timesteps, [1/2, T + 1/2]."""
        return float(self._interval(np.asarray(0.5), np.asarray(grid_length(grid) + 0.5)))

    def gaussian_share(self, grid: Grid = DEFAULT_T) -> float:
        """The Gaussian's share of the mixture in effect, after ``mix`` and ``uniform_floor``."""
        share = self.mix if self.mix is not None else (self.inside(grid) if self.tails == "uniform" else 1.0)
        return min(share, 1.0 - self.uniform_floor)

    def misfit(self, grid: Grid = DEFAULT_T) -> str | None:
        """The interval lies outside 1..T, or its bounds look like fractions of the schedule."""
        T = grid_length(grid)
        if 0 <= self.low < self.high <= 1 < T:
            return f"bounds are timesteps from 1 to {T}, not fractions: all of the interval lies at the first timestep"
        inside = self.inside(T)
        if self.low > T or self.high < 1 or inside < LEAST_INSIDE:
            rest = "spread over all timesteps" if self.tails == "uniform" else "cut off or moved to an end"
            return f"only {inside:.1%} of the interval's Gaussian lies on the timesteps 1..{T}; the rest is {rest}"
        return None

    def probabilities(self, grid: Grid) -> Vector:
        """The mixture's mass in [t - 1/2, t + 1/2] for t = 1..T."""
        T = grid_length(grid)
        edges = np.arange(T + 1) + 0.5
        masses = self._interval(edges[:-1], edges[1:])
        gaussian, share = self._parts(T)
        probabilities = gaussian * masses
        if self.tails == "clamp":
            probabilities[[0, -1]] += share * np.array(self._tails(T)) if T > 1 else 0.0
        probabilities = probabilities + (1 - share) / T
        return probabilities / probabilities.sum()

    def pdf(self, x: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """The mixture's density on [1/2, T + 1/2]; a clamped tail is spread over its timestep's cell."""
        x = np.asarray(x, dtype=np.float64)
        gaussian, share = self._parts(T)
        density = gaussian * normal_pdf((x - self.mu) / self.scale) / self.scale + (1 - share) / T
        if self.tails == "clamp":
            below, above = self._tails(T)
            density = density + share * (below * (x < 1.5) + above * (x > T - 0.5))
        return np.where((x >= 0.5) & (x <= T + 0.5), density, 0.0)

    def cdf(self, x: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """The mixture's mass up to x."""
        x = np.clip(np.asarray(x, dtype=np.float64), 0.5, T + 0.5)
        gaussian, share = self._parts(T)
        mass = gaussian * self._interval(np.full_like(x, 0.5), x) + (1 - share) * (x - 0.5) / T
        if self.tails == "clamp":
            below, above = self._tails(T)
            mass = mass + share * (below * np.clip(x - 0.5, 0, 1) + above * np.clip(x - (T - 0.5), 0, 1))
        return np.clip(mass, 0.0, 1.0)

    def quantile(self, q: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """The inverse of ``cdf``, by bisection to the last bit."""
        return bisect(lambda x: self.cdf(x, T), checked_fractions(q), 0.5, T + 0.5)

    def slope(self, grid: Grid) -> Vector:
        """d p / d mu: pdf at each cell's lower edge minus pdf at its upper edge, of the Gaussian part."""
        T = grid_length(grid)
        edges = np.arange(T + 1) + 0.5
        density = self._parts(T)[0] * normal_pdf((edges - self.mu) / self.scale) / self.scale
        return density[:-1] - density[1:]

    def _interval(self, low: Vector, high: Vector) -> Vector:
        return normal_interval((low - self.mu) / self.scale, (high - self.mu) / self.scale)

    def _tails(self, T: int) -> tuple[float, float]:
        below = self._interval(np.asarray(-np.inf), np.asarray(0.5))
        above = self._interval(np.asarray(T + 0.5), np.asarray(np.inf))
        return float(below), float(above)

    def _parts(self, T: int) -> tuple[float, float]:
        """What the Gaussian's own masses are multiplied by, and the share of the non-uniform part."""
        share = self.gaussian_share(T)
        if self.tails == "clamp":
            return share, share
        inside = self.inside(T)
        if inside > 0:
            return share / inside, share
        if share > 0:
            raise no_mass(repr(self))
        return 0.0, 0.0
