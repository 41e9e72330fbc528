"""Your own probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memfast.foundation.errors import InputError
from memfast.timesteps.density import DiscreteDensity, Grid, Vector, grid_length, normalized, vector_of_numbers


@dataclass(frozen=True)
class Custom(DiscreteDensity):
    """Probabilities given one by one.

    Args:
        weights: ``[T]``, finite, 0 or more, one above 0; divided by their sum. Index j is timestep j + 1.

    Raises:
        InputError: a weight that is NaN, infinite or negative, or none above 0; a grid of another length.

    >>> Custom([1, 0, 3]).probabilities(3)
    array([0.25, 0.  , 0.75])
    """

    name: ClassVar[str] = "custom"
    weights: Sequence[float]

    def __post_init__(self) -> None:
        weights = vector_of_numbers("weights", self.weights)
        normalized(weights, "weights")
        object.__setattr__(self, "weights", tuple(weights.tolist()))

    def probabilities(self, grid: Grid) -> Vector:
        """The weights, normalised."""
        if grid_length(grid) != len(self.weights):
            raise InputError("weights", expected=f"{grid_length(grid)} weights", received=f"{len(self.weights)}")
        return normalized(np.asarray(self.weights), repr(self))

    def __repr__(self) -> str:
        return f"Custom(<{len(self.weights)} weights>)"
