"""A density that changes over training, as planned."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.timesteps.custom import Mixture
from memfast.timesteps.density import Density, Grid, Stepwise, Vector, check_density

INTERPOLATIONS = ("piecewise", "linear")


@dataclass(frozen=True)
class Plan(Stepwise):
    """A density for every step of training: from each start on its own density, or gliding from one to the next.

    Args:
        stages: (first step, density) pairs, the first at step 0, their steps rising.
        interpolation: ``"piecewise"`` keeps a density until the next one starts; ``"linear"`` mixes the two neighbours,
            (1 - f) p_a + f p_b with f the fraction of the way.

    ``at(step)`` is the density of a step; ``probabilities`` are those of step 0. ``DenoisingObjective.set_step``
    follows it.

    >>> from memfast.timesteps import ConfidenceInterval, Uniform
    >>> plan = Plan(((0, Uniform()), (1000, ConfidenceInterval(600, 1000))), interpolation="linear")
    >>> plan.at(500).shares
    (0.5, 0.5)
    """

    name: ClassVar[str] = "plan"
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

    def at(self, step: int) -> Density:
        """The density of a training step."""
        steps = [start for start, _ in self.stages]
        index = int(np.searchsorted(steps, step, side="right")) - 1
        if index < 0:
            raise InputError("step", expected="0 or more", received=str(step))
        current = self.stages[index][1]
        if self.interpolation == "piecewise" or index + 1 == len(self.stages) or step == steps[index]:
            return current
        fraction = (step - steps[index]) / (steps[index + 1] - steps[index])
        return Mixture((current, self.stages[index + 1][1]), (1 - fraction, fraction))

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
    def from_config(cls, arguments: Mapping[str, Any]) -> "Plan":
        """The plan with these entries; densities may be dictionaries."""
        from memfast.timesteps.registry import density_from_dict

        entries = dict(arguments)
        entries["stages"] = tuple(
            (step, density_from_dict(one) if isinstance(one, Mapping) else one) for step, one in entries["stages"]
        )
        return cls(**entries)
