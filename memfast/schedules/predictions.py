"""What a network predicts, as a linear combination of the clean sample and the noise; and how to read it back.

Every target is c_x * x0 + c_n * noise. With x_t = alpha * x0 + sigma * noise and d = alpha * c_n - sigma * c_x:
x0 = (c_n * x_t - sigma * prediction) / d and noise = (alpha * prediction - c_x * x_t) / d.

========================  ==============================  ==========================
prediction type           c_x                             c_n
========================  ==============================  ==========================
``epsilon``               0                               1
``sample``                1                               0
``v_prediction``          -sigma                          alpha
``flow_prediction``       -1                              1
``edm``                   sigma / (sigma_data * h)        -sigma_data * alpha / h
========================  ==============================  ==========================

h = sqrt(sigma_data^2 alpha^2 + sigma^2). ``edm`` is the raw output F of a network preconditioned as in Karras et al.
2022 (table 1, last column: x0 = c_skip x + c_out F), whose input is x_t / h.
"""

import torch
from torch import Tensor

from memfast.foundation.errors import InputError

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction", "flow_prediction", "edm")
SIGMA_DATA = 0.5


def check_prediction_type(prediction_type: str) -> None:
    """Raise unless ``prediction_type`` is one of ``PREDICTION_TYPES``."""
    if prediction_type not in PREDICTION_TYPES:
        raise InputError(
            "prediction_type", expected="one of " + ", ".join(PREDICTION_TYPES), received=repr(prediction_type)
        )


def target_coefficients(
    prediction_type: str, alpha: Tensor, sigma: Tensor, sigma_data: float = SIGMA_DATA
) -> tuple[Tensor, Tensor]:
    """(c_x, c_n) of the target c_x * x0 + c_n * noise, of the shape of ``alpha``."""
    check_prediction_type(prediction_type)
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    if prediction_type == "epsilon":
        return zero, one
    if prediction_type == "sample":
        return one, zero
    if prediction_type == "v_prediction":
        return -sigma, alpha
    if prediction_type == "flow_prediction":
        return -one, one
    h = torch.hypot(sigma_data * alpha, sigma)
    return sigma / (sigma_data * h), -sigma_data * alpha / h


def input_scale(prediction_type: str, alpha: Tensor, sigma: Tensor, sigma_data: float = SIGMA_DATA) -> Tensor:
    """What x_t is multiplied by before the network sees it: 1, or 1 / h for ``edm``."""
    check_prediction_type(prediction_type)
    return 1 / torch.hypot(sigma_data * alpha, sigma) if prediction_type == "edm" else torch.ones_like(alpha)


def target(
    prediction_type: str, x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor, sigma_data: float = SIGMA_DATA
) -> Tensor:
    """What the network should predict; ``alpha`` and ``sigma`` broadcast against ``x0``."""
    c_x, c_n = target_coefficients(prediction_type, alpha, sigma, sigma_data)
    return c_x * x0 + c_n * noise


def x0_and_noise(
    prediction: Tensor,
    x_t: Tensor,
    alpha: Tensor | float,
    sigma: Tensor | float,
    prediction_type: str,
    sigma_data: float = SIGMA_DATA,
) -> tuple[Tensor, Tensor]:
    """The clean sample and the noise that a network's output stands for.

    Args:
        prediction: the network's output.
        x_t: the noised sample itself (for ``edm``: before its input scale).
        alpha: the signal's share at each sample's level, a number or a tensor that broadcasts against ``x_t``.
        sigma: the noise's share, likewise. ``epsilon`` cannot be read where alpha is 0, ``sample`` where sigma is 0
            (the noise becomes infinite).
        prediction_type: one of ``PREDICTION_TYPES``.
        sigma_data: the data's standard deviation, for ``edm``.

    Returns:
        (x0, noise) with alpha * x0 + sigma * noise = x_t.

    >>> x0, noise = torch.tensor([3.0]), torch.tensor([-1.0])
    >>> a, s = torch.tensor(0.8), torch.tensor(0.6)
    >>> read = x0_and_noise(target("v_prediction", x0, noise, a, s), a * x0 + s * noise, a, s, "v_prediction")
    >>> [round(value.item(), 5) for value in read]
    [3.0, -1.0]
    """
    a = torch.as_tensor(alpha, device=x_t.device)
    s = torch.as_tensor(sigma, device=x_t.device)
    if prediction_type == "sample":
        return prediction, (x_t - a * prediction) / s
    c_x, c_n = target_coefficients(prediction_type, a, s, sigma_data)
    determinant = a * c_n - s * c_x
    return (c_n * x_t - s * prediction) / determinant, (a * prediction - c_x * x_t) / determinant
