"""Tensors in, tensors out: the ops of memfast, one public function each. What a backend implements: ``contract``.

An op lives in a module of its own name, as its tests and its backends do, and under that name this package shows the
function: import ops from here, never from those modules. (Packages and functions never share a name.)
"""

from memfast.foundation.deprecated import deprecated_names
from memfast.ops.addresses import STREAMS, key
from memfast.ops.ema import ema
from memfast.ops.inner_products import inner_products
from memfast.ops.loss import gather_loss, loss
from memfast.ops.nearest import BlockNeighbors, nearest, range_search
from memfast.ops.noise import GatheredNoise, gather_noise, noise
from memfast.ops.operands import Draw, Operands
from memfast.ops.pairs import candidates, pair_distances
from memfast.ops.random import draw_timesteps, philox, standard_normal

__all__ = [
    "STREAMS",
    "BlockNeighbors",
    "Draw",
    "GatheredNoise",
    "Operands",
    "candidates",
    "draw_timesteps",
    "ema",
    "gather_loss",
    "gather_noise",
    "inner_products",
    "key",
    "loss",
    "nearest",
    "noise",
    "pair_distances",
    "philox",
    "range_search",
    "standard_normal",
]

__getattr__ = deprecated_names(__name__, {"products": "inner_products", "within": "range_search"})
