"""Densities made of densities: mixtures, and a plan of which density each training step has."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.timesteps.density import (
    Density,
    DiscreteDensity,
    Grid,
    Vector,
    check_density,
    normalized,
    vector_of_numbers,
)

INTERPOLATIONS = ("piecewise", "linear")
Build = Callable[[Any], Any]


class CombinedDensity(DiscreteDensity):
    """Base of the densities that hold others: what their parts learn, they learn.

    A part that learns from losses is told all of them, whichever part a timestep was drawn from.
    """

    @property
    @abstractmethod
    def parts(self) -> tuple[Density, ...]:
        """The densities inside."""

    @property
    def changes_while_training(self) -> bool:
        """Whether one of its parts does."""
        return any(part.changes_while_training for part in self.parts)

    @property
    def learns_from_losses(self) -> bool:
        """Whether one of its parts does."""
        return any(part.learns_from_losses for part in self.parts)

    def update(self, T: int, timesteps: Sequence[int] | np.ndarray, losses: Sequence[float] | np.ndarray) -> None:
        """Tell every part that learns."""
        for part in self._learners().values():
            part.update(T, timesteps, losses)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The parts' states, ``NUMBER.NAME``."""
        return {
            f"{number}.{name}": array
            for number, part in self._learners().items()
            for name, array in part.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up the parts' states."""
        for number, part in self._learners().items():
            start = f"{number}."
            own = {name.removeprefix(start): array for name, array in state.items() if name.startswith(start)}
            part.load_state_dict(own)

    def _learners(self) -> dict[int, Density]:
        """Each part that learns, once, however often it is there."""
        found: dict[int, Density] = {}
        for number, part in enumerate(self.parts):
            if part.learns_from_losses and not any(part is other for other in found.values()):
                found[number] = part
        return found


@dataclass(frozen=True)
class Mixture(CombinedDensity):
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

    @property
    def parts(self) -> tuple[Density, ...]:
        """The components."""
        return self.components

    def at(self, step: int) -> Density:
        """The mixture of what the components are at a training step."""
        now = tuple(component.at(step) for component in self.components)
        same = all(one is other for one, other in zip(now, self.components, strict=True))
        return self if same else Mixture(now, self.shares)

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
    def from_config(cls, arguments: Mapping[str, Any], build: Build) -> "Mixture":
        """The mixture with these entries; components may be names or dictionaries."""
        entries = dict(arguments)
        entries["components"] = [_built(part, build) for part in entries["components"]]
        return cls(**entries)


@dataclass(frozen=True)
class DensitySchedule(CombinedDensity):
    """A density for every step of training: from each start on its own density, or gliding from one to the next.

    Args:
        stages: (first step, density) pairs, the first at step 0, their steps rising.
        interpolation: ``"piecewise"`` keeps a density until the next one starts; ``"linear"`` mixes the two neighbours,
            (1 - f) p_a + f p_b with f the fraction of the way.

    ``at(step)`` is the density of a step; ``probabilities`` are those of step 0. ``DenoisingObjective.set_step``
    follows it.

    >>> from memfast.timesteps import ConfidenceInterval, Uniform
    >>> moving = DensitySchedule(((0, Uniform()), (1000, ConfidenceInterval(600, 1000))), interpolation="linear")
    >>> moving.at(500).shares
    (0.5, 0.5)
    """

    # The name that run folders hold.
    name: ClassVar[str] = "plan"
    aliases: ClassVar[tuple[str, ...]] = ("density_schedule",)
    changes_while_training: ClassVar[bool] = True
    stages: tuple[tuple[int, Density], ...]
    interpolation: str = "piecewise"

    def __post_init__(self) -> None:
        for stage in self.stages if isinstance(self.stages, tuple | list) else [self.stages]:
            if not isinstance(stage, tuple | list) or len(stage) != 2:
                expected = "(first step, density) pairs"
                raise InputError("stages", expected=expected, received=repr(self.stages))
            check_density("stages", stage[1])
        steps = [whole_number("stages", step, least=0) for step, _ in self.stages]
        if not steps or steps[0] != 0 or any(b <= a for a, b in pairwise(steps)):
            raise InputError("stages", expected="steps that rise from 0", received=str(steps))
        if self.interpolation not in INTERPOLATIONS:
            expected = "one of " + ", ".join(INTERPOLATIONS)
            raise InputError("interpolation", expected=expected, received=repr(self.interpolation))
        object.__setattr__(self, "stages", tuple((int(step), density) for step, density in self.stages))

    @property
    def parts(self) -> tuple[Density, ...]:
        """The stages' densities."""
        return tuple(density for _, density in self.stages)

    def at(self, step: int) -> Density:
        """The density of a training step."""
        steps = [start for start, _ in self.stages]
        index = int(np.searchsorted(steps, step, side="right")) - 1
        if index < 0:
            raise InputError("step", expected="0 or more", received=str(step))
        current = self.stages[index][1].at(step)
        if self.interpolation == "piecewise" or index + 1 == len(self.stages) or step == steps[index]:
            return current
        fraction = (step - steps[index]) / (steps[index + 1] - steps[index])
        return Mixture((current, self.stages[index + 1][1].at(step)), (1 - fraction, fraction))

    def misfit(self, grid: Grid) -> str | None:
        """That of the first stage that does not fit."""
        found = (density.misfit(grid) for _, density in self.stages)
        return next((text for text in found if text is not None), None)

    def probabilities(self, grid: Grid) -> Vector:
        """Those of step 0."""
        return self.at(0).probabilities(grid)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary, the stages' own inside it."""
        stages = [[step, density.to_dict()] for step, density in self.stages]
        return {"name": self.name, "stages": stages, "interpolation": self.interpolation}

    @classmethod
    def from_config(cls, arguments: Mapping[str, Any], build: Build) -> "DensitySchedule":
        """The schedule with these entries; densities may be names or dictionaries."""
        entries = dict(arguments)
        entries["stages"] = tuple((step, _built(one, build)) for step, one in entries["stages"])
        return cls(**entries)


def _built(part: Any, build: Build) -> Any:
    return build(part) if isinstance(part, str | Mapping) else part
