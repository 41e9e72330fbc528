"""How much a timestep's error counts: loss weights, each defined once and converted to every prediction type.

The targets of all prediction types are linear in (x0, noise), so their errors at one noise level differ by a factor
only: with d = alpha * c_n - sigma * c_x (``memfast.schedules.predictions``), |error of x0| = sigma / |d| * |error of
prediction|. A weight W on the squared error of x0 is therefore the weight W * sigma^2 / d^2 on the squared error of the
prediction. Each class gives W * sigma^2, in which every usual weight is finite.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from memfast.schedules.predictions import SIGMA_DATA, target_coefficients

# alpha is 0 at zero terminal SNR; ratios such as min(SNR, gamma) / SNR still have a limit there.
TINY_ALPHA = 1e-150


class LossWeight(ABC):
    """A weight on the squared error of a prediction.

    Attributes:
        name: what configurations call it.
        by_row: whether it asks for the timestep itself, so that a continuous schedule cannot have it.
        depends_on_density: whether it needs the timesteps' probabilities, so that its table changes with the density.
    """

    name: ClassVar[str]
    by_row: ClassVar[bool] = False
    depends_on_density: ClassVar[bool] = False

    def resolved(self, build: Callable[[Any], Any]) -> "LossWeight":
        """The weight itself, or where it holds another by name or dictionary, one that holds the object.

        Args:
            build: makes a weight from a name or a dictionary.
        """
        return self

    def density_factor(self, probabilities: np.ndarray) -> np.ndarray | None:
        """What the density puts into the weight, float64 ``[T]``: a density that learns from losses divides it out.

        Args:
            probabilities: float64 ``[T]``, the timesteps'.

        Returns:
            None where the density puts nothing into it.
        """
        return None

    def on_prediction(
        self,
        alpha: Tensor,
        sigma: Tensor,
        prediction_type: str,
        sigma_data: float = SIGMA_DATA,
        probabilities: Tensor | None = None,
    ) -> Tensor:
        """The weight on mean((prediction - target)^2), float64, of each level.

        Args:
            alpha: float64 ``[N]``.
            sigma: float64 ``[N]``.
            prediction_type: what the network predicts.
            sigma_data: the data's standard deviation, for prediction type ``edm``.
            probabilities: float64 ``[N]``, the timesteps' probabilities, for a weight that depends on the density.
        """
        alpha = alpha.clamp_min(TINY_ALPHA)
        return self.scaled(alpha, sigma) / determinant(prediction_type, alpha, sigma, sigma_data) ** 2

    def for_data(self, sigma_data: float) -> "LossWeight":
        """This weight for data of that standard deviation: where it was left open, it is the objective's."""
        return self

    @abstractmethod
    def scaled(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """W * sigma^2, W being the weight on the squared error of x0."""

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that ``weight_from_dict`` reads back."""
        return {"name": self.name, **asdict(self)}  # type: ignore[call-overload]


def determinant(prediction_type: str, alpha: Tensor, sigma: Tensor, sigma_data: float = SIGMA_DATA) -> Tensor:
    """d = alpha * c_n - sigma * c_x: |error of x0| = sigma / |d| * |error of the prediction|."""
    c_x, c_n = target_coefficients(prediction_type, alpha, sigma, sigma_data)
    return alpha * c_n - sigma * c_x
