"""The weights that are functions of the noise level, each with its source."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.objective.weights.base import LossWeight
from memfast.schedules.predictions import SIGMA_DATA


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
        finite_number("gamma", self.gamma, above=0)

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
        finite_number("gamma", self.gamma)
        finite_number("k", self.k, above=0)

    def scaled(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """alpha^2 / (k + SNR)^gamma."""
        return alpha**2 / (self.k + (alpha / sigma) ** 2) ** self.gamma


@dataclass(frozen=True)
class EDM(LossWeight):
    """SNR + 1 / sigma_data^2 on x0, which is (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 where alpha is 1 (Karras
    et al. 2022, table 1). On the raw output of a network with EDM's preconditioning it is 1.

    Args:
        sigma_data: the data's standard deviation; None takes the objective's.
    """

    name: ClassVar[str] = "edm"
    sigma_data: float | None = None

    def __post_init__(self) -> None:
        if self.sigma_data is not None:
            finite_number("sigma_data", self.sigma_data, above=0)

    def for_data(self, sigma_data: float) -> "EDM":
        """With the objective's standard deviation, unless it has its own."""
        return self if self.sigma_data is not None else EDM(sigma_data)

    def on_prediction(
        self,
        alpha: Tensor,
        sigma: Tensor,
        prediction_type: str,
        sigma_data: float = SIGMA_DATA,
        probabilities: Tensor | None = None,
    ) -> Tensor:
        """As every weight's, with ``sigma_data`` where it has none of its own."""
        if self.sigma_data is None:
            return EDM(sigma_data).on_prediction(alpha, sigma, prediction_type, sigma_data, probabilities)
        return super().on_prediction(alpha, sigma, prediction_type, sigma_data, probabilities)

    def scaled(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """alpha^2 + (sigma / sigma_data)^2."""
        return alpha**2 + (sigma / (self.sigma_data or SIGMA_DATA)) ** 2


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
