"""A network as a denoiser: its output, with guidance and clipping, read as clean sample and noise."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from memfast.foundation.errors import InputError
from memfast.sampling.steps import Level
from memfast.schedules import x0_and_noise
from memfast.schedules.predictions import SIGMA_DATA, check_prediction_type, input_scale

Network = Callable[..., torch.Tensor]


@dataclass
class Denoiser:
    """What a sampler calls.

    Attributes:
        network: called as ``network(x, times)``, or ``network(x, times, labels)`` where there are labels.
        prediction_type: what it predicts.
        guidance: 1 uses the labels as they are; w gives ``without + w * (with - without)``, two calls per step.
        clip: the least and greatest value of a clean sample, or None.
        sigma_data: for ``prediction_type="edm"``.
    """

    network: Network
    prediction_type: str = "epsilon"
    guidance: float = 1.0
    clip: tuple[float, float] | None = None
    sigma_data: float = SIGMA_DATA

    def __post_init__(self) -> None:
        check_prediction_type(self.prediction_type)
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise InputError("clip", expected="(least, greatest)", received=str(self.clip))

    def __call__(
        self, x: torch.Tensor, level: Level, labels: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The clean sample and the noise in ``x`` at ``level``, by the network's estimate."""
        alpha = torch.tensor(level.alpha, dtype=torch.float64, device=x.device)
        sigma = torch.tensor(level.sigma, dtype=torch.float64, device=x.device)
        dtype = torch.int64 if isinstance(level.time, int) else torch.float32
        times = torch.full((len(x),), level.time, dtype=dtype, device=x.device)
        scaled = x * input_scale(self.prediction_type, alpha, sigma, self.sigma_data)
        output = self._call(scaled, times, labels).to(x.dtype)
        x0, noise = x0_and_noise(output, x, alpha, sigma, self.prediction_type, self.sigma_data)
        if self.clip is not None:
            x0 = x0.clamp(*self.clip)
            noise = (x - alpha * x0) / sigma
        return x0, noise

    def _call(self, x: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        if labels is None:
            return self.network(x, timesteps)
        conditional = self.network(x, timesteps, labels)
        if self.guidance == 1.0:
            return conditional
        unconditional = self.network(x, timesteps, None)
        return unconditional + self.guidance * (conditional - unconditional)
