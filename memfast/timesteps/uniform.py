"""Every timestep alike."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from memfast.timesteps.density import DEFAULT_T, Density, Grid, Vector, checked_fractions, grid_length


@dataclass(frozen=True)
class Uniform(Density):
    """p(t) = 1 / T: what plain diffusion training does (Ho et al. 2020, algorithm 1).

    >>> Uniform().probabilities(4)
    array([0.25, 0.25, 0.25, 0.25])
    """

    name: ClassVar[str] = "uniform"

    def probabilities(self, grid: Grid) -> Vector:
        """1 / T for each."""
        T = grid_length(grid)
        return np.full(T, 1 / T)

    def pdf(self, x: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """1 / T on [1/2, T + 1/2], 0 outside."""
        x = np.asarray(x, dtype=np.float64)
        return np.where((x >= 0.5) & (x <= T + 0.5), 1 / T, 0.0)

    def cdf(self, x: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """(x - 1/2) / T."""
        return np.clip((np.asarray(x, dtype=np.float64) - 0.5) / T, 0.0, 1.0)

    def quantile(self, q: ArrayLike, T: int = DEFAULT_T) -> Vector:
        """1/2 + q T."""
        return 0.5 + checked_fractions(q) * T
