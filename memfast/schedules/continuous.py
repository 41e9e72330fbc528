"""Noise levels without a grid: every sigma, or every time in (0, 1)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from memfast.foundation.arguments import finite_number


@dataclass(frozen=True)
class ContinuousSchedule:
    """alpha and sigma of any noise level, named by its log SNR or by a time in (0, 1). In torch float64, so that it
    runs inside a compiled step.

    Args:
        name: the function that makes it, for ``to_dict``.
        family: ``"ve"`` (alpha = 1), ``"flow"`` (alpha + sigma = 1) or ``"vp"`` (alpha^2 + sigma^2 = 1).
        parameters: the arguments of the function ``name``.
    """

    name: str
    family: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def at_log_snr(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma), float64, of the levels with this ln(alpha^2 / sigma^2)."""
        half = 0.5 * log_snr.double()
        if self.family == "ve":
            return torch.ones_like(half), torch.exp(-half)
        if self.family == "flow":
            return torch.sigmoid(half), torch.sigmoid(-half)
        return torch.sigmoid(2 * half).sqrt(), torch.sigmoid(-2 * half).sqrt()

    def at_time(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma), float64, at times in (0, 1): 0 is clean, 1 is the most noise."""
        u = time.double()
        if self.family == "flow":
            shift = self.parameters["shift"]
            total = 1 + (shift - 1) * u
            return (1 - u) / total, shift * u / total
        if self.family == "vp":
            return torch.cos(u * (torch.pi / 2)), torch.sin(u * (torch.pi / 2))
        rho = self.parameters["rho"]
        low, high = self.parameters["sigma_min"] ** (1 / rho), self.parameters["sigma_max"] ** (1 / rho)
        return torch.ones_like(u), (low + u * (high - low)) ** rho

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that ``memfast.schedules.schedule_from_dict`` turns back into this schedule."""
        return {"name": self.name, **self.parameters}


def edm_continuous(sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> ContinuousSchedule:
    """Every sigma, alpha = 1 (Karras et al. 2022). A density over log SNR or sigma may draw beyond the two ends, as
    EDM's log-normal does; they bound densities over time only."""
    least = finite_number("sigma_min", sigma_min, above=0)
    finite_number("sigma_max", sigma_max, above=least)
    finite_number("rho", rho, above=0)
    return ContinuousSchedule("edm_continuous", "ve", {"sigma_min": sigma_min, "sigma_max": sigma_max, "rho": rho})


def flow_continuous(shift: float = 1.0) -> ContinuousSchedule:
    """Flow matching at every time: x_t = (1 - s) x0 + s noise, s = shift u / (1 + (shift - 1) u)."""
    finite_number("shift", shift, above=0)
    return ContinuousSchedule("flow_continuous", "flow", {"shift": shift})


def vp_continuous() -> ContinuousSchedule:
    """Variance-preserving at every level; by time it is the cosine path, alpha = cos(pi u / 2)."""
    return ContinuousSchedule("vp_continuous", "vp", {})
