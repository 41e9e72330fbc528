"""Tensors in, tensors out: the ops of memfast, one public function each. What a backend implements: ``contract``.

An op lives in a module of its own name, as its tests and its backends do, and under that name this package shows the
function: import ops from here, never from those modules. (Packages and functions never share a name.)
"""

from memfast.ops.addresses import STREAMS, key
from memfast.ops.ema import ema
from memfast.ops.gather import GatheredNoise, gather_loss, gather_noise
from memfast.ops.loss import loss
from memfast.ops.nearest import BlockNeighbors, nearest, within
from memfast.ops.noise import noise
from memfast.ops.products import products
from memfast.ops.random import draw_timesteps, philox, standard_normal

__all__ = [
    "STREAMS",
    "BlockNeighbors",
    "GatheredNoise",
    "draw_timesteps",
    "ema",
    "gather_loss",
    "gather_noise",
    "key",
    "loss",
    "nearest",
    "noise",
    "philox",
    "products",
    "standard_normal",
    "within",
]
