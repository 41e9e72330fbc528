"""Densities with steps: some timesteps several times as often as the others."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memfast.foundation.errors import InputError
from memfast.timesteps.density import Grid, Stepwise, Vector, check_number, grid_length, normalized

STRATEGIES = ("earlier", "later", "range")


@dataclass(frozen=True)
class SpeeD(Stepwise):
    """The first ``tau`` timesteps ``k`` times as often as the rest (Wang et al. 2024, SpeeD; k = 5, tau = 700 of 1000
    in the authors' configuration, k = 2 for FFHQ). Their pairing of t with its mirror is not part of it; ``stratified``
    draws serve that end. Their loss weight is ``memfast.objective``'s ``speed``.

    Args:
        tau: how many timesteps are favoured, counted from 1.
        k: how many times as often.
    """

    name: ClassVar[str] = "speed"
    tau: int = 700
    k: float = 5.0

    def __post_init__(self) -> None:
        check_number("tau", self.tau, above=0.0)
        check_number("k", self.k, above=0.0)

    def probabilities(self, grid: Grid) -> Vector:
        """k for timesteps 1..tau, 1 for the others, normalised."""
        timesteps = np.arange(grid_length(grid))
        return normalized(np.where(timesteps < self.tau, self.k, 1.0), repr(self))


@dataclass(frozen=True)
class TimestepBias(Stepwise):
    """A portion of the timesteps ``multiplier`` times as often (diffusers' SDXL script, ``--timestep_bias_strategy``).

    Args:
        strategy: ``"later"`` or ``"earlier"`` (the last or first ``portion``), or ``"range"`` (0-based timesteps from
            ``begin`` up to, not including, ``end``).
        multiplier: above 0; more than 1 favours the portion.
        portion: a share of the timesteps, in (0, 1].
        begin: first timestep of the range, 0-based.
        end: the timestep behind it.
    """

    name: ClassVar[str] = "timestep_bias"
    strategy: str = "later"
    multiplier: float = 2.0
    portion: float = 0.25
    begin: int = 0
    end: int = 1000

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise InputError("strategy", expected="one of " + ", ".join(STRATEGIES), received=repr(self.strategy))
        check_number("multiplier", self.multiplier, above=0.0)
        check_number("portion", self.portion, above=0.0, up_to=1.0)

    def probabilities(self, grid: Grid) -> Vector:
        """multiplier in the portion, 1 elsewhere, normalised."""
        T = grid_length(grid)
        count = int(self.portion * T)
        weights = np.ones(T)
        if self.strategy == "range":
            if not 0 <= self.begin < self.end <= T:
                raise InputError(
                    "begin, end", expected=f"0 <= begin < end <= {T}", received=f"{self.begin}, {self.end}"
                )
            weights[self.begin : self.end] *= self.multiplier
        elif self.strategy == "earlier":
            weights[:count] *= self.multiplier
        else:
            weights[T - count :] *= self.multiplier
        return normalized(weights, repr(self))
