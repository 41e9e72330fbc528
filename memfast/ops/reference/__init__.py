"""The definition of every op in plain PyTorch: short, slow, on any device. The other backends must equal it."""

from memfast.ops.reference.loss import loss
from memfast.ops.reference.noise import noise
from memfast.ops.reference.philox import philox
from memfast.ops.reference.random import draw_timesteps, standard_normal

__all__ = ["draw_timesteps", "loss", "noise", "philox", "standard_normal", "why_unavailable"]


def why_unavailable() -> str | None:
    """None: PyTorch is always there."""
    return None
