"""How much a timestep's error counts: loss weights, each defined once and converted to every prediction type.

The targets of all prediction types are linear in (x0, noise), so their errors at one noise level differ by a factor
only: with d = alpha * c_n - sigma * c_x (``memfast.schedules.predictions``), |error of x0| = sigma / |d| * |error of
prediction|. A weight W on the squared error of x0 is therefore the weight W * sigma^2 / d^2 on the squared error of the
prediction. Each class gives W * sigma^2, in which every usual weight is finite.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from memfast.foundation.errors import InputError
from memfast.schedules.predictions import PREDICTION_TYPES, SIGMA_DATA, target_coefficients

# alpha is 0 at zero terminal SNR; ratios such as min(SNR, gamma) / SNR still have a limit there.
TINY_ALPHA = 1e-150


class LossWeight(ABC):
    """A weight on the squared error of a prediction."""

    name: ClassVar[str]

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
            probabilities: float64 ``[N]``, the timesteps' probabilities, for ``importance``.
        """
        alpha = alpha.clamp_min(TINY_ALPHA)
        return self.scaled(alpha, sigma) / determinant(prediction_type, alpha, sigma, sigma_data) ** 2

    @abstractmethod
    def scaled(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """W * sigma^2, W being the weight on the squared error of x0."""

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that ``weight_from_dict`` reads back."""
        return {"name": self.name, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class Unweighted(LossWeight):
    """Weight 1 on the error of whatever is predicted: the plain mean squared error."""

    name: ClassVar[str] = "none"

    def on_prediction(
        self,
        alpha: Tensor,
        sigma: Tensor,
        prediction_type: str,
        sigma_data: float = SIGMA_DATA,
        probabilities: Tensor | None = None,
    ) -> Tensor:
        """1."""
        return torch.ones_like(alpha)

    def scaled(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Not defined without a prediction type."""
        raise NotImplementedError


@dataclass(frozen=True)
class MinSNR(LossWeight):
    """min(SNR, gamma) on x0: min(SNR, gamma) / SNR on epsilon, min(SNR, gamma) / (SNR + 1) on v (Hang et al. 2023)."""

    name: ClassVar[str] = "min_snr"
    gamma: float = 5.0

    def __post_init__(self) -> None:
        _check_positive("gamma", self.gamma)

    def scaled(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """min(alpha^2, gamma sigma^2)."""
        return torch.minimum(alpha**2, self.gamma * sigma**2)


@dataclass(frozen=True)
class P2(LossWeight):
    """1 / (k + SNR)^gamma on epsilon (Choi et al. 2022, equation 9)."""

    name: ClassVar[str] = "p2"
    gamma: float = 1.0
    k: float = 1.0

    def __post_init__(self) -> None:
        _check_positive("k", self.k)

    def scaled(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """alpha^2 / (k + SNR)^gamma."""
        return alpha**2 / (self.k + (alpha / sigma) ** 2) ** self.gamma


@dataclass(frozen=True)
class EDM(LossWeight):
    """SNR + 1 / sigma_data^2 on x0, which is (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 where alpha is 1 (Karras
    et al. 2022, table 1). On the raw output of a network with EDM's preconditioning it is 1."""

    name: ClassVar[str] = "edm"
    sigma_data: float = SIGMA_DATA

    def __post_init__(self) -> None:
        _check_positive("sigma_data", self.sigma_data)

    def scaled(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """alpha^2 + (sigma / sigma_data)^2."""
        return alpha**2 + (sigma / self.sigma_data) ** 2


@dataclass(frozen=True)
class Debiased(LossWeight):
    """1 / sqrt(SNR) on epsilon, which is sqrt(SNR) on x0 (Yu et al. 2024, debiased estimation loss)."""

    name: ClassVar[str] = "debiased"

    def scaled(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """alpha sigma."""
        return alpha * sigma


@dataclass(frozen=True)
class SD3(LossWeight):
    """Stable Diffusion 3's weights, s = sigma / (alpha + sigma) being the flow's time (diffusers' ``training_utils``).

    Args:
        scheme: ``"cosmap"`` 2 / (pi (1 - 2 s + 2 s^2)), or ``"sigma_sqrt"`` s^-2.
        space: whose squared error is weighted: ``"flow_prediction"`` (diffusers' Flux scripts, and the paper's density
            form) or ``"sample"`` (diffusers' SD3 scripts with ``--precondition_outputs``, their default).
    """

    name: ClassVar[str] = "sd3"
    scheme: str = "cosmap"
    space: str = "flow_prediction"

    def __post_init__(self) -> None:
        if self.scheme not in ("cosmap", "sigma_sqrt"):
            raise InputError("scheme", expected="cosmap or sigma_sqrt", received=repr(self.scheme))
        if self.space not in ("flow_prediction", "sample"):
            raise InputError("space", expected="flow_prediction or sample", received=repr(self.space))

    def scaled(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The weight times (alpha + sigma)^2 in flow space, times sigma^2 in sample space."""
        s = sigma / (alpha + sigma)
        weight = 2 / (torch.pi * (1 - 2 * s + 2 * s * s)) if self.scheme == "cosmap" else s**-2
        return weight * ((alpha + sigma) if self.space == "flow_prediction" else sigma) ** 2


@dataclass(frozen=True)
class SpeeD(LossWeight):
    """SpeeD's weight on epsilon (Wang et al. 2024): 1 from timestep ``tau`` on; before it (1 - l) + (2 l - 1) m, m
    being the step-to-step change of sigma^2 scaled to [0, 1] over the timesteps before ``tau``. For a schedule of T
    rows.

    Args:
        tau: how many timesteps count as early.
        l: between 0.5 and 1; 0.6 in the authors' configuration.
    """

    name: ClassVar[str] = "speed"
    tau: int = 700
    l: float = 0.6  # noqa: E741

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
class Custom(LossWeight):
    """Your own numbers.

    Args:
        values: one weight of 0 or more per timestep.
        space: whose squared error they weight: a prediction type, or ``"prediction"`` for whatever is predicted.

    Raises:
        InputError: a weight that is NaN, infinite or negative; another length than the schedule's.
    """

    name: ClassVar[str] = "custom"
    values: Sequence[float]
    space: str = "prediction"

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64)
        if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any():
            bad = "" if values.ndim != 1 else f", {values[~(np.isfinite(values) & (values >= 0))][0]} among them"
            expected, received = "a vector of finite weights of 0 or more", f"shape {values.shape}{bad}"
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
    base: "LossWeight | str | Mapping[str, Any]" = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", weight_from_dict(self.base))

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
            do = "A continuous schedule has no uniform density to be unbiased for."
            raise InputError("importance", expected="a schedule of rows", received="a continuous one", do=do)
        base = weight_from_dict(self.base).on_prediction(alpha, sigma, prediction_type, sigma_data, probabilities)
        drawn = probabilities > 0
        return torch.where(drawn, base / (len(probabilities) * torch.where(drawn, probabilities, 1.0)), 0.0)

    def scaled(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Not defined without a density."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that ``weight_from_dict`` reads back."""
        return {"name": self.name, "base": weight_from_dict(self.base).to_dict()}


WEIGHTS: dict[str, type[LossWeight]] = {
    weight.name: weight for weight in (Unweighted, MinSNR, P2, EDM, Debiased, SD3, SpeeD, Custom, Importance)
}


def weight_from_dict(config: "LossWeight | str | Mapping[str, Any]") -> LossWeight:
    """The weight of a name (its defaults), of a dictionary, or the object itself.

    Raises:
        InputError: an unknown name or argument.

    >>> weight_from_dict("min_snr"), weight_from_dict({"name": "p2", "gamma": 0.5})
    (MinSNR(gamma=5.0), P2(gamma=0.5, k=1.0))
    """
    if isinstance(config, LossWeight):
        return config
    arguments = {"name": config} if isinstance(config, str) else dict(config)
    name = arguments.pop("name", None)
    if name not in WEIGHTS:
        raise InputError("loss_weight", expected="one of " + ", ".join(WEIGHTS), received=repr(name))
    try:
        return WEIGHTS[name](**arguments)
    except TypeError as error:
        raise InputError(f"loss_weight {name}", expected="its own arguments", received=str(error)) from error


def determinant(prediction_type: str, alpha: Tensor, sigma: Tensor, sigma_data: float = SIGMA_DATA) -> Tensor:
    """d = alpha * c_n - sigma * c_x: |error of x0| = sigma / |d| * |error of the prediction|."""
    c_x, c_n = target_coefficients(prediction_type, alpha, sigma, sigma_data)
    return alpha * c_n - sigma * c_x


def _check_positive(what: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InputError(what, expected="a finite number above 0", received=repr(value))
