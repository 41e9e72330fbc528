"""Ambient targets: above a noise level the model is never shown the clean sample, only one fixed noisy copy of it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.schedules import ContinuousSchedule, Schedule

MARGIN = 0.05


@dataclass(frozen=True)
class Ambient:
    """Learning from noisy data at high noise (Shah et al. 2025, arXiv 2502.21278, algorithm 1).

    Sample i has one fixed noise f_i for the whole training (stream ``fixed``, addressed by ``fixed_ids``, never
    stored). Its noisy copy is x_n = alpha_n * x0 + sigma_n * f_i. At noise levels from sigma_n / alpha_n on, the input
    is made from x_n by adding noise, and the model's denoised x_n is compared with x_n; below, training is as usual.

    Args:
        sigma: sigma_n in the schedule's own sigma (for EDM a standard deviation in the data's units). Give this or
            ``timestep``.
        timestep: the row (0-based) of the schedule whose level is (alpha_n, sigma_n).
        compensate: False weights as the paper's code does, which multiplies the weight of the x0 error by
            (alpha_n (1 - (rho_n / rho_t)^2))^2, rho = sigma / alpha, and so fades to 0 at the threshold; True divides
            that factor out (as later Ambient Omni code does).
        margin: with ``compensate``, levels within this fraction above the threshold keep the factor of its end, so that
            nothing is divided by zero.

    Raises:
        InputError: neither or both levels given, or a number outside its range.
    """

    sigma: float | None = None
    timestep: int | None = None
    compensate: bool = False
    margin: float = MARGIN

    def __post_init__(self) -> None:
        if (self.sigma is None) == (self.timestep is None):
            received = "neither" if self.sigma is None else "both"
            raise InputError("Ambient", expected="sigma or timestep, one of them", received=received)
        if self.sigma is not None:
            finite_number("sigma", self.sigma, above=0)
        if self.timestep is not None:
            expected = "a row of the schedule, a whole number of 0 or more"
            whole_number("timestep", self.timestep, least=0, words=expected)
        finite_number("margin", self.margin, above=0)

    def level(self, schedule: Schedule | ContinuousSchedule) -> tuple[float, float]:
        """(alpha_n, sigma_n), the level of the noisy copies under a schedule.

        Raises:
            InputError: the threshold lies outside the schedule.
        """
        if self.timestep is not None:
            if not isinstance(schedule, Schedule) or self.timestep >= len(schedule):
                length = f"a row from 0 to {len(schedule) - 1}" if isinstance(schedule, Schedule) else "sigma instead"
                raise InputError("Ambient timestep", expected=length, received=str(self.timestep))
            alpha_n, sigma_n = float(schedule.alpha[self.timestep]), float(schedule.sigma[self.timestep])
        else:
            assert self.sigma is not None
            low, high = 0.0, math.inf if schedule.family == "ve" else 1.0
            if isinstance(schedule, Schedule):
                low, high = float(schedule.sigma[0]), float(schedule.sigma[-1])
            if not low <= self.sigma <= high:
                expected = f"a level within the schedule, {low:.6g} to {high:.6g}"
                raise InputError("Ambient sigma", expected=expected, received=f"{self.sigma:.6g}")
            sigma_n = self.sigma
            alpha_n = {
                "ve": 1.0, "flow": 1.0 - sigma_n, "vp": math.sqrt((1.0 - sigma_n) * (1.0 + sigma_n)),
            }[schedule.family]  # fmt: skip
        if not alpha_n > 0:
            raise InputError("Ambient", expected="a level with some signal left", received="one that is all noise")
        return alpha_n, sigma_n

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that ``Ambient.from_dict`` reads back."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "Ambient":
        """The settings that ``to_dict`` described."""
        try:
            return cls(**config)
        except TypeError as error:
            raise InputError("ambient", expected="sigma, timestep, compensate, margin", received=str(error)) from error


def denoised_data(
    x0: Tensor, x_t: Tensor, *, alpha_data: float, sigma_data: float, alpha_t: Tensor | float, sigma_t: Tensor | float
) -> Tensor:
    """E[x_n | x_t] from x0 = E[x0 | x_t]: what an ambient model is compared with x_n in.

    (alpha_n q^2 x0 + r sigma_n^2 x_t) / sigma_t^2, with r = alpha_t / alpha_n and q^2 = sigma_t^2 - r^2 sigma_n^2; for
    alpha = 1 the paper's ((sigma_t^2 - sigma_n^2) x0 + sigma_n^2 x_t) / sigma_t^2. The published versions take their
    two levels in opposite orders; here both are named.

    Args:
        x0: the posterior mean of the clean sample.
        x_t: the noised sample.
        alpha_data: alpha_n, the signal's share in the noisy data.
        sigma_data: sigma_n, the noise's share in the noisy data; its level must not exceed that of x_t.
        alpha_t: the signal's share in x_t.
        sigma_t: the noise's share in x_t.
    """
    a, s = torch.as_tensor(alpha_t, dtype=torch.float64), torch.as_tensor(sigma_t, dtype=torch.float64)
    r = a / alpha_data
    fixed_share = (r * sigma_data / s) ** 2
    if bool((fixed_share > 1 + 1e-12).any()):
        expected = "a level of x_t at or above the data's, sigma_t / alpha_t >= sigma_data / alpha_data"
        raise InputError("sigma_data, sigma_t", expected=expected, received=f"{sigma_data} and {float(s.min()):.6g}")
    on_x0 = (alpha_data * (1 - fixed_share)).to(x_t)
    on_x_t = (r * sigma_data**2 / s**2).to(x_t)
    return on_x0 * x0 + on_x_t * x_t
