"""Your own probabilities, and mixtures of any densities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from memfast.foundation.errors import InputError
from memfast.timesteps.density import (
    Density,
    Grid,
    Stepwise,
    Vector,
    check_density,
    grid_length,
    normalized,
    vector_of_numbers,
)


@dataclass(frozen=True)
class Custom(Stepwise):
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


@dataclass(frozen=True)
class Mixture(Stepwise):
    """A mixture of densities over timesteps: p = sum of share_k p_k.

    Args:
        components: the densities.
        shares: 0 or more each, one above 0; divided by their sum.
    """

    name: ClassVar[str] = "mixture"
    components: tuple[Density, ...]
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        shares = vector_of_numbers("shares", self.shares)
        if not isinstance(self.components, tuple | list):
            raise InputError("components", expected="a list of densities", received=repr(self.components))
        for component in self.components:
            check_density("components", component)
        if len(self.components) == 0 or len(self.components) != len(shares):
            received = f"{len(self.components)} components and {len(shares)} shares"
            raise InputError("components, shares", expected="one share for each component", received=received)
        normalized(shares, "shares")
        object.__setattr__(self, "components", tuple(self.components))
        object.__setattr__(self, "shares", tuple(shares.tolist()))

    def misfit(self, grid: Grid) -> str | None:
        """That of the first component that does not fit."""
        found = (one.misfit(grid) for one, share in zip(self.components, self.shares, strict=True) if share > 0)
        return next((text for text in found if text is not None), None)

    def probabilities(self, grid: Grid) -> Vector:
        """The shares' sum of the components' probabilities."""
        shares = normalized(np.asarray(self.shares), "shares")
        parts = zip(shares, self.components, strict=True)
        return normalized(sum(share * density.probabilities(grid) for share, density in parts if share > 0), repr(self))

    def to_dict(self) -> dict[str, Any]:
        """A dictionary, the components' own inside it."""
        components = [component.to_dict() for component in self.components]
        return {"name": self.name, "components": components, "shares": list(self.shares)}

    @classmethod
    def from_config(cls, arguments: Mapping[str, Any]) -> "Mixture":
        """The mixture with these entries; components may be dictionaries."""
        from memfast.timesteps.registry import density_from_dict

        entries = dict(arguments)
        entries["components"] = [
            density_from_dict(part) if isinstance(part, Mapping) else part for part in entries["components"]
        ]
        return cls(**entries)
