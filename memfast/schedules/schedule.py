"""The noise schedule: alpha_t and sigma_t of every timestep, in float64."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memfast.foundation.deprecated import warn_deprecated
from memfast.foundation.errors import InputError

FAMILIES = ("vp", "ve", "flow")


@dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    """x_t = alpha_t * x0 + sigma_t * noise at T noise levels, least noise first.

    Made by the functions of this package (``linear``, ``cosine``, ``edm``, ...), rarely by hand.

    Args:
        name: the function that makes it, for ``to_dict``.
        family: ``"vp"`` (alpha^2 + sigma^2 = 1), ``"ve"`` (alpha = 1) or ``"flow"`` (alpha + sigma = 1).
        alpha: float64 ``[T]``, the share of the signal.
        sigma: float64 ``[T]``, the standard deviation of the noise.
        log_snr: float64 ``[T]``, ln(alpha^2 / sigma^2), falling; -inf where alpha is 0.
        parameters: the arguments of the function ``name``.

    Raises:
        InputError: lengths that differ, or noise that does not grow.
    """

    name: str
    family: str
    alpha: NDArray[np.float64]
    sigma: NDArray[np.float64]
    log_snr: NDArray[np.float64]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise InputError("family", expected="one of " + ", ".join(FAMILIES), received=repr(self.family))
        shapes = {array.shape for array in (self.alpha, self.sigma, self.log_snr)}
        if len(shapes) != 1 or len(self.alpha.shape) != 1 or len(self.alpha) == 0:
            raise InputError("schedule", expected="three vectors of one length", received=f"shapes {sorted(shapes)}")
        if np.isnan(self.log_snr).any() or (np.diff(self.log_snr) >= 0).any():
            where = int(np.argmax(~(np.diff(self.log_snr, prepend=np.inf) < 0)))
            raise InputError(
                "schedule", expected="noise that grows with t", received=f"log SNR not falling at row {where}"
            )
        for array in (self.alpha, self.sigma, self.log_snr):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.alpha)

    def __eq__(self, other: object) -> bool:
        """Equal when alpha, sigma and log_snr agree to the last bit, however they were made."""
        if not isinstance(other, Schedule):
            return NotImplemented
        pairs = ((self.alpha, other.alpha), (self.sigma, other.sigma), (self.log_snr, other.log_snr))
        return self.family == other.family and all(np.array_equal(a, b) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        arguments = ", ".join(
            f"{name}={f'<{len(value)} values>' if isinstance(value, list) else value!r}"
            for name, value in self.parameters.items()
        )
        return f"{self.name}({arguments})"

    @cached_property
    def snr(self) -> NDArray[np.float64]:
        """alpha^2 / sigma^2, falling with t."""
        return np.exp(self.log_snr)

    @property
    def alphas_cumprod(self) -> NDArray[np.float64]:
        """alpha^2, as diffusers names it (for the VP family the cumulative product of 1 - beta)."""
        return self.alpha**2

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON or TOML that ``memfast.schedules.schedule_from_dict`` turns back into the same bits."""
        return {"name": self.name, **self.parameters}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "Schedule":
        """Deprecated: use ``memfast.schedules.schedule_from_dict``.

        Raises:
            InputError: an unknown name or argument, or a continuous schedule.
        """
        warn_deprecated("Schedule.from_dict", "memfast.schedules.schedule_from_dict")
        made = importlib.import_module("memfast.schedules").schedule_from_dict(config)
        if not isinstance(made, cls):
            raise InputError("schedule", expected="a schedule of T rows", received=f"the continuous {made!r}")
        return made


def from_log_alphas_cumprod(
    name: str, log_alphas_cumprod: NDArray[np.float64], parameters: Mapping[str, Any]
) -> Schedule:
    """A VP schedule from ln(alpha^2): sigma near t = 0 keeps all its digits, as 1 - alpha^2 would not."""
    sigma_squared = -np.expm1(log_alphas_cumprod)
    with np.errstate(divide="ignore"):
        log_snr = log_alphas_cumprod - np.log(sigma_squared)
    return Schedule(name, "vp", np.exp(0.5 * log_alphas_cumprod), np.sqrt(sigma_squared), log_snr, dict(parameters))
