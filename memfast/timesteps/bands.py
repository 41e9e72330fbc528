"""Densities with steps: some timesteps several times as often as the others."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.timesteps.density import DiscreteDensity, Grid, Vector, grid_length, normalized

STRATEGIES = ("earlier", "later", "range")


@dataclass(frozen=True)
class SpeeD(DiscreteDensity):
    """The first ``tau`` timesteps ``k`` times as often as the rest (Wang et al. 2024, SpeeD; k = 5, tau = 700 of 1000
    in the authors' configuration, k = 2 for FFHQ). Their loss weight is ``memfast.objective``'s ``speed``.

    Their code draws half of a batch so and gives each draw t (0-based) a partner at ``|t - mirror|``. With ``mirror``
    the density is the one that both halves have together. The pairing itself is left out: a sample's timestep follows
    from its own address alone, whoever else is in the batch. What pairing is for, an even spread over a batch, is what
    ``DenoisingObjective(stratified=True)`` does.

    Args:
        tau: how many timesteps are favoured, counted from 1.
        k: how many times as often.
        mirror: the timestep (0-based) that the partners are reflected at, or None for no partners. The authors take
            ``numpy.argmax(numpy.gradient(schedule.sigma) < 1e-4) + 1``: 642 for the linear schedule of 1,000.
    """

    name: ClassVar[str] = "speed"
    tau: int = 700
    k: float = 5.0
    mirror: int | None = None

    def __post_init__(self) -> None:
        finite_number("tau", self.tau, above=0)
        finite_number("k", self.k, above=0)
        if self.mirror is not None:
            whole_number("mirror", self.mirror, least=0)

    def misfit(self, grid: Grid) -> str | None:
        """``tau`` favours every timestep, or none."""
        T = grid_length(grid)
        if self.k != 1 and (self.tau >= T or self.tau < 1):
            which = "every one" if self.tau >= T else "none"
            return f"tau={self.tau} favours {which} of the {T} timesteps: it is uniform"
        return None

    def probabilities(self, grid: Grid) -> Vector:
        """k for timesteps 1..tau, 1 for the others, normalised; with ``mirror``, half of it reflected.

        Raises:
            InputError: ``mirror`` is beyond the grid.
        """
        timesteps = np.arange(grid_length(grid))
        weights = np.where(timesteps < self.tau, self.k, 1.0)
        if self.mirror is not None:
            if self.mirror >= len(timesteps):
                raise InputError("mirror", expected=f"below {len(timesteps)} timesteps", received=str(self.mirror))
            weights = weights + np.bincount(abs(timesteps - self.mirror), weights, minlength=len(timesteps))
        return normalized(weights, repr(self))


@dataclass(frozen=True)
class TimestepBias(DiscreteDensity):
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
        finite_number("multiplier", self.multiplier, above=0)
        finite_number("portion", self.portion, above=0, greatest=1)
        whole_number("begin", self.begin, least=0)
        whole_number("end", self.end, least=0)

    def misfit(self, grid: Grid) -> str | None:
        """The portion holds no timestep, or all of them."""
        T = grid_length(grid)
        if self.strategy != "range" and self.multiplier != 1 and int(self.portion * T) in (0, T):
            which = "none" if int(self.portion * T) == 0 else "all"
            return f"portion={self.portion} holds {which} of the {T} timesteps: it is uniform"
        return None

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
