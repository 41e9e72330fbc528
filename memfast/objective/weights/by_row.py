"""The weights that need to know the timestep itself: SpeeD's, your own numbers, importance weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.objective.weights.base import TINY_ALPHA, LossWeight, determinant
from memfast.schedules.predictions import PREDICTION_TYPES, SIGMA_DATA
from memfast.timesteps import importance_weights
from memfast.timesteps.density import vector_of_numbers


@dataclass(frozen=True)
class SpeeDWeight(LossWeight):
    """SpeeD's weight on epsilon (Wang et al. 2024): 1 from timestep ``tau`` on; before it (1 - l) + (2 l - 1) m, m
    being the step-to-step change of sigma^2 scaled to [0, 1] over the timesteps before ``tau``. For a schedule of T
    rows.

    Args:
        tau: how many timesteps count as early.
        l: between 0.5 and 1; 0.6 in the authors' configuration.
    """

    name: ClassVar[str] = "speed"
    by_row: ClassVar[bool] = True
    tau: int = 700
    l: float = 0.6  # noqa: E741

    def __post_init__(self) -> None:
        whole_number("tau", self.tau, least=2)
        finite_number("l", self.l, least=0.5, greatest=1)

    def scaled(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The weight times alpha^2."""
        if not 2 <= self.tau <= len(alpha):
            raise InputError("tau", expected=f"2 to T={len(alpha)} timesteps", received=str(self.tau))
        change = torch.gradient(sigma**2)[0][: self.tau]
        scaled = (change - change.min()) / (change.max() - change.min())
        weight = torch.ones_like(alpha)
        weight[: self.tau] = (1 - self.l) + (2 * self.l - 1) * scaled
        return weight * alpha**2


@dataclass(frozen=True)
class CustomWeight(LossWeight):
    """Your own numbers.

    Args:
        values: one weight of 0 or more per timestep.
        space: whose squared error they weight: a prediction type, or ``"prediction"`` for whatever is predicted.

    Raises:
        InputError: a weight that is NaN, infinite or negative; another length than the schedule's.
    """

    name: ClassVar[str] = "custom"
    by_row: ClassVar[bool] = True
    values: Sequence[float]
    space: str = "prediction"

    def __post_init__(self) -> None:
        values = vector_of_numbers("values", self.values)
        bad = values[~(np.isfinite(values) & (values >= 0))]
        if len(bad):
            expected, received = "a vector of finite weights of 0 or more", f"shape {values.shape}, {bad[0]} among them"
            raise InputError("values", expected=expected, received=received)
        if self.space != "prediction" and self.space not in PREDICTION_TYPES:
            expected = "prediction, or one of " + ", ".join(PREDICTION_TYPES)
            raise InputError("space", expected=expected, received=repr(self.space))
        object.__setattr__(self, "values", tuple(values.tolist()))

    def on_prediction(
        self,
        alpha: Tensor,
        sigma: Tensor,
        prediction_type: str,
        sigma_data: float = SIGMA_DATA,
        probabilities: Tensor | None = None,
    ) -> Tensor:
        """The values, converted from their space."""
        if len(self.values) != len(alpha):
            raise InputError("values", expected=f"{len(alpha)} weights", received=f"{len(self.values)}")
        values = torch.tensor(self.values, dtype=torch.float64, device=alpha.device)
        if self.space == "prediction":
            return values
        alpha = alpha.clamp_min(TINY_ALPHA)
        mine = determinant(self.space, alpha, sigma, sigma_data)
        return values * (mine / determinant(prediction_type, alpha, sigma, sigma_data)) ** 2

    def scaled(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Not defined without a prediction type."""
        raise NotImplementedError


@dataclass(frozen=True)
class Importance(LossWeight):
    """1 / (T p(t)) times another weight: the expected loss is the uniform density's, whatever the density.

    Args:
        base: the other weight: an object, a name or a dictionary.
    """

    name: ClassVar[str] = "importance"
    by_row: ClassVar[bool] = True
    depends_on_density: ClassVar[bool] = True
    base: LossWeight | str | Mapping[str, Any] = "none"

    @classmethod
    def from_config(cls, arguments: Mapping[str, Any], build: Callable[[Any], Any]) -> "Importance":
        """The weight with these entries; the base may be a name or a dictionary."""
        return cls(**arguments).resolved(build)

    def resolved(self, build: Callable[[Any], Any]) -> "Importance":
        """With the base as an object."""
        return Importance((self.base if isinstance(self.base, LossWeight) else build(self.base)).resolved(build))

    def density_factor(self, probabilities: np.ndarray) -> np.ndarray:
        """1 / (T p), times the base's own factor."""
        inner = self._base.density_factor(probabilities)
        return importance_weights(probabilities) * (1.0 if inner is None else inner)

    def on_prediction(
        self,
        alpha: Tensor,
        sigma: Tensor,
        prediction_type: str,
        sigma_data: float = SIGMA_DATA,
        probabilities: Tensor | None = None,
    ) -> Tensor:
        """base / (T p), 0 where p is 0."""
        if probabilities is None:
            raise InputError("importance", expected="the timesteps' probabilities", received="None")
        base = self._base.on_prediction(alpha, sigma, prediction_type, sigma_data, probabilities)
        drawn = probabilities > 0
        return torch.where(drawn, base / (len(probabilities) * torch.where(drawn, probabilities, 1.0)), 0.0)

    def scaled(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Not defined without a density."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that ``weight_from_dict`` reads back."""
        return {"name": self.name, "base": self.base.to_dict() if isinstance(self.base, LossWeight) else self.base}

    @property
    def _base(self) -> LossWeight:
        if not isinstance(self.base, LossWeight):
            raise InputError(
                "importance", expected="a base that is a loss weight", received=repr(self.base),
                do="Pass it through memfast.objective.weight_from_dict, as DenoisingObjective does.",
            )  # fmt: skip
        return self.base
