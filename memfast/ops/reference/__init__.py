"""The definition of every op in plain PyTorch: short, slow, on any device. The other backends must equal it."""

from memfast.ops.reference.ema import ema
from memfast.ops.reference.gather import gather_loss, gather_noise
from memfast.ops.reference.loss import loss
from memfast.ops.reference.nearest import nearest, within
from memfast.ops.reference.noise import noise
from memfast.ops.reference.philox import philox
from memfast.ops.reference.products import products
from memfast.ops.reference.random import draw_timesteps, standard_normal

__all__ = [
    "draw_timesteps",
    "ema",
    "gather_loss",
    "gather_noise",
    "loss",
    "nearest",
    "noise",
    "philox",
    "products",
    "standard_normal",
    "why_unavailable",
    "within",
]


def why_unavailable() -> str | None:
    """None: PyTorch is always there."""
    return None
