"""An objective as a table: seven numbers per noise level say what goes into the network and what is compared.

x_in = a_x * x0 + a_f * fixed + a_n * noise; residual = k_p * prediction - (k_x * x0 + k_f * fixed + k_n * noise).
Everything is float64 here; the table is rounded to float32 once, at the end. ``docs/objective.md`` derives the rows.
"""

import torch
from torch import Tensor

from memfast.foundation.errors import InputError
from memfast.objective.ambient import MARGIN
from memfast.schedules.predictions import SIGMA_DATA, input_scale, target_coefficients

COLUMNS = ("a_x", "a_f", "a_n", "k_p", "k_x", "k_f", "k_n")


def rows(
    alpha: Tensor,
    sigma: Tensor,
    weight: Tensor,
    prediction_type: str,
    *,
    sigma_data: float = SIGMA_DATA,
    ambient_level: tuple[float, float] | None = None,
    compensate: bool = False,
    margin: float = MARGIN,
) -> Tensor:
    """The table's rows at given noise levels: float64 ``[N, 7]``.

    Args:
        alpha: float64 ``[N]``.
        sigma: float64 ``[N]``, above 0.
        weight: float64 ``[N]``, on the squared error of the prediction.
        prediction_type: what the network predicts.
        sigma_data: the data's standard deviation, for ``edm``.
        ambient_level: (alpha_n, sigma_n) of the noisy copies, or None for plain training.
        compensate: see ``Ambient``.
        margin: see ``Ambient``.
    """
    c_x, c_n = target_coefficients(prediction_type, alpha, sigma, sigma_data)
    scale = input_scale(prediction_type, alpha, sigma, sigma_data)
    k = weight.sqrt()
    zero = torch.zeros_like(alpha)
    plain = torch.stack([scale * alpha, zero, scale * sigma, k, k * c_x, zero, k * c_n], -1)
    if ambient_level is None:
        return plain
    alpha_n, sigma_n = ambient_level
    # (rho_n / rho_t)^2 with rho = sigma / alpha: the share of x_t's noise variance that is the fixed noise.
    shared = (alpha * sigma_n / (alpha_n * sigma)) ** 2
    fresh = (1 - shared).clamp_min(0)
    r, q = alpha / alpha_n, sigma * fresh.sqrt()
    pull = alpha_n * fresh
    if compensate:
        k = k / (alpha_n * fresh.clamp_min(1 - (1 + margin) ** -2))
    ambient = torch.stack(
        [
            scale * alpha,
            scale * r * sigma_n,
            scale * q,
            k * pull,
            k * pull * c_x,
            k * fresh * sigma_n * c_x,
            k * fresh.sqrt() * (alpha_n * c_n - r * sigma_n**2 / sigma * c_x),
        ],
        -1,
    )
    return torch.where((shared <= 1).unsqueeze(-1), ambient, plain)


def checked_float32(table: Tensor, needed: Tensor | None = None) -> Tensor:
    """The table in float32.

    Args:
        table: float64 ``[T, 7]``.
        needed: bool ``[T]``, the rows that can be drawn; the others may be undefined and are then 0. None: all.

    Raises:
        InputError: a number that is not finite in float32, with its row and column.
    """
    table = table.float().contiguous()
    bad = ~torch.isfinite(table)
    if needed is not None:
        table = torch.where((bad.any(1) & ~needed).unsqueeze(1), 0.0, table)
        bad &= needed.unsqueeze(1)
    if bool(bad.any()):
        row, column = (int(index) for index in bad.nonzero()[0])
        name, value = COLUMNS[column], float(table[row, column])
        do = "Weight or prediction type are not defined at that noise level: choose others, or let p be 0 there."
        raise InputError("objective", expected="a finite table", received=f"{name} = {value} in row {row}", do=do)
    return table
