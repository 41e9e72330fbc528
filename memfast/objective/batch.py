"""A noised batch."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """A noised batch; a plain tuple of tensors to the compiler.

    Attributes:
        x_t: ``[B, ...]`` in x0's dtype, the network's input.
        timesteps: int64 ``[B]``, the rows of the table that were used (diffusers' 0-based timesteps).
        sample_ids: int64 ``[B]``, the addresses of the noise.
        key: int64 ``[2]``, (seed, step).
        x0: ``[B, ...]``, the clean data.
        fixed_ids: int64 ``[B]``, addresses of the fixed noise; None without an ambient target.
        table: float32 ``[B, 7]`` of a continuous objective, whose ``timesteps`` are 0..B-1; otherwise None.
        time: ``[B]``, what to tell the network of the noise level: the timesteps, ln(sigma) / 4 for EDM schedules, 1000
            times the time for flow.
    """

    x_t: Tensor
    timesteps: Tensor
    sample_ids: Tensor
    key: Tensor
    x0: Tensor
    fixed_ids: Tensor | None = None
    table: Tensor | None = None
    time: Tensor | None = None
