"""The C++ kernels (AVX-512, AVX2, portable), called on addresses."""

from memfast.ops.cpu.ema import ema
from memfast.ops.cpu.nearest import nearest, within
from memfast.ops.cpu.noise import gather_loss, gather_noise, loss, noise
from memfast.ops.cpu.products import products
from memfast.ops.cpu.random import draw_timesteps, philox, standard_normal

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
    """None where the compiled module is there, otherwise the reason."""
    try:
        import memfast._C  # noqa: F401
    except ImportError as error:
        return f"the C++ kernels are not built ({error}); reinstall with a C++ compiler and MEMFAST_BUILD=cpu"
    return None
