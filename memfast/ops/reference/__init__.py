"""The definition of every op in plain PyTorch: short, slow, on any device. The other backends must equal it."""

from memfast.ops.reference.ema import ema
from memfast.ops.reference.inner_products import inner_products
from memfast.ops.reference.loss import loss
from memfast.ops.reference.nearest import nearest, range_search
from memfast.ops.reference.noise import noise
from memfast.ops.reference.pairs import candidates, pair_distances
from memfast.ops.reference.random import draw_timesteps, philox, standard_normal

__all__ = [
    "candidates",
    "draw_timesteps",
    "ema",
    "inner_products",
    "loss",
    "nearest",
    "noise",
    "pair_distances",
    "philox",
    "range_search",
    "standard_normal",
    "why_unavailable",
]


def why_unavailable() -> str | None:
    """None: PyTorch is always there."""
    return None
