"""The usual schedules of T timesteps."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.schedules.schedule import Schedule, from_log_alphas_cumprod


def linear(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
    """DDPM's schedule: betas evenly spaced (Ho et al. 2020, section 4).

    >>> schedule = linear(1000)
    >>> len(schedule), round(float(schedule.alpha[0] ** 2), 6)
    (1000, 0.9999)
    """
    _check_ends(T, beta_start, beta_end)
    betas = np.linspace(beta_start, beta_end, T)
    return _from_betas("linear", betas, {"T": T, "beta_start": beta_start, "beta_end": beta_end})


def scaled_linear(T: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> Schedule:
    """Stable Diffusion's schedule: square roots of the betas evenly spaced (diffusers' ``scaled_linear``)."""
    _check_ends(T, beta_start, beta_end)
    betas = np.linspace(beta_start**0.5, beta_end**0.5, T) ** 2
    return _from_betas("scaled_linear", betas, {"T": T, "beta_start": beta_start, "beta_end": beta_end})


def cosine(T: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """alpha^2(u) = cos^2((u + offset) / (1 + offset) * pi / 2), betas capped (Nichol and Dhariwal 2021, equation 17).

    diffusers' ``squaredcos_cap_v2``.
    """
    _check_length(T)
    finite_number("offset", offset, least=0, below=1)
    finite_number("max_beta", max_beta, above=0, below=1)
    angle = (np.arange(T + 1) / T + offset) / (1 + offset) * (np.pi / 2)
    before, after = angle[:-1], angle[1:]
    # 1 - cos^2(b) / cos^2(a), without subtracting two numbers close to one.
    betas = np.minimum(np.sin(after - before) * np.sin(after + before) / np.cos(before) ** 2, max_beta)
    return _from_betas("cosine", betas, {"T": T, "offset": offset, "max_beta": max_beta})


def from_betas(betas: Sequence[float] | NDArray[np.floating]) -> Schedule:
    """A VP schedule from its betas: alpha_t^2 is the product of 1 - beta up to t.

    Args:
        betas: ``[T]``, each above 0 and below 1; the last may be 1 (zero terminal SNR).

    Raises:
        InputError: a beta outside that range.
    """
    values = np.array(betas, dtype=np.float64)
    return _from_betas("from_betas", values, {"betas": values.tolist()})


def from_alphas_cumprod(alphas_cumprod: Sequence[float] | NDArray[np.floating]) -> Schedule:
    """A VP schedule from alpha^2 itself, for example a diffusers scheduler's ``alphas_cumprod``.

    Args:
        alphas_cumprod: ``[T]``, falling, below 1; the last may be 0. Where betas are known, prefer ``from_betas``:
            1 - alpha^2 has lost digits near t = 0.
    """
    values = np.array(alphas_cumprod, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not ((values >= 0) & (values < 1)).all():
        raise InputError("alphas_cumprod", expected="a vector of values in [0, 1)", received=_range_text(values))
    with np.errstate(divide="ignore"):
        return from_log_alphas_cumprod("from_alphas_cumprod", np.log(values), {"alphas_cumprod": values.tolist()})


def edm(T: int = 1000, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Schedule:
    """The noise levels of EDM (Karras et al. 2022, equation 5), alpha = 1, least noise first.

    sigma_j = (sigma_min^(1/rho) + j / (T - 1) * (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho. For training on every
    sigma see ``edm_continuous``.
    """
    _check_length(T)
    least = finite_number("sigma_min", sigma_min, above=0)
    finite_number("sigma_max", sigma_max, above=least)
    finite_number("rho", rho, above=0)
    sigma = np.linspace(sigma_min ** (1 / rho), sigma_max ** (1 / rho), T) ** rho
    parameters = {"T": T, "sigma_min": sigma_min, "sigma_max": sigma_max, "rho": rho}
    return Schedule("edm", "ve", np.ones(T), sigma, -2 * np.log(sigma), parameters)


def flow(T: int = 1000, shift: float = 1.0) -> Schedule:
    """Flow matching's straight path, x_t = (1 - s) x0 + s noise, at s = 1/T, 2/T, ..., 1 (Lipman et al. 2023).

    Args:
        T: the number of levels.
        shift: moves the levels to more noise, s -> shift s / (1 + (shift - 1) s) (Stable Diffusion 3, section 5.3.2;
            diffusers' FlowMatchEulerDiscreteScheduler). 1 leaves them.
    """
    _check_length(T)
    finite_number("shift", shift, above=0)
    u = np.arange(1, T + 1) / T
    complement = np.arange(T - 1, -1, -1) / T
    total = 1 + (shift - 1) * u
    sigma, alpha = shift * u / total, complement / total
    with np.errstate(divide="ignore"):
        log_snr = 2 * (np.log(alpha) - np.log(sigma))
    return Schedule("flow", "flow", alpha, sigma, log_snr, {"T": T, "shift": shift})


def _from_betas(name: str, betas: NDArray[np.float64], parameters: dict) -> Schedule:
    if betas.ndim != 1 or len(betas) == 0:
        raise InputError("betas", expected="a vector of at least one beta", received=f"shape {betas.shape}")
    good = (betas > 0) & (betas < 1)
    good[-1] |= betas[-1] == 1
    if not good.all():
        where = int(np.argmin(good))
        raise InputError("betas", expected="values above 0 and below 1", received=f"{betas[where]} at row {where}")
    with np.errstate(divide="ignore"):
        return from_log_alphas_cumprod(name, np.cumsum(np.log1p(-betas)), parameters)


def _check_length(T: int) -> None:
    whole_number("T", T, least=1, words="the number of timesteps, 1 or more")


def _check_ends(T: int, beta_start: float, beta_end: float) -> None:
    _check_length(T)
    first, last = (
        finite_number(name, value, above=0, below=1)
        for name, value in (("beta_start", beta_start), ("beta_end", beta_end))
    )
    if not first <= last:
        received = f"{beta_start} and {beta_end}"
        raise InputError("beta_start, beta_end", expected="0 < beta_start <= beta_end < 1", received=received)


def _range_text(values: NDArray[np.float64]) -> str:
    return f"shape {values.shape}" + (f" from {values.min()} to {values.max()}" if values.size else "")
