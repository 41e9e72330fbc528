"""The C++ kernels (AVX-512, AVX2, portable), called on structs of addresses."""

from memfast.ops import compiled
from memfast.ops.cpu.ema import ema
from memfast.ops.cpu.inner_products import inner_products
from memfast.ops.cpu.loss import loss
from memfast.ops.cpu.nearest import nearest, range_search
from memfast.ops.cpu.noise import noise
from memfast.ops.cpu.pairs import candidates, pair_distances
from memfast.ops.cpu.random import draw_timesteps, philox, standard_normal

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
    """None where the compiled module is there, otherwise the reason."""
    try:
        compiled.load(compiled.CPU)
    except ImportError as error:
        return f"the C++ kernels are not built ({error}); reinstall with a C++ compiler and MEMFAST_BUILD=cpu"
    return None
