"""What a backend implements: a module with some of these functions, and ``why_unavailable() -> str | None``.

Each backend is a package with one file per family of ops: ``noise``, ``loss``, ``random``, ``ema``, ``inner_products``,
``nearest``. The public ops check their arguments, make the tensors of :class:`memfast.ops.Operands` and
:class:`memfast.ops.Draw` contiguous and ``[B, ...]`` tensors ``[B, D]`` (element index = C order of the logical shape),
and give results the caller's shape and memory format. A backend sees only what is described here.
Bits: integers, normals, x_in and gradients equal the reference's bit for bit, whatever floating-point mode the calling
thread is in (``docs/exactness.md``); losses agree to rounding and repeat exactly on one device.

All tensors are on one device. Noise: stream "noise", step ``key[1]``. Fixed noise: stream "fixed", step 0; without
``fixed_ids`` its term is left out. With ``indices``, ``x0`` is a uint8 data set ``[N, D]``, and sample b is
(float32(byte) * 2 - 255) * float32(1/255) of row ``indices[b]``; with ``flip_width`` > 0, rows of that many elements
are reversed for the samples whose Philox word w0 of element 0 of stream "augmentation" (step ``key[1]``) is odd.

Values on a CPU are checked (``memfast.ops.checks.check_values``). On a GPU nothing may wait for the device: a row that
is out of range gives NaN, ids are taken modulo 2**56.
"""

from typing import Protocol

import numpy as np
import torch

from memfast.ops.operands import Draw, Operands
from memfast.ops.rows import Rows

RangeResult = tuple[np.ndarray, np.ndarray, np.ndarray]


class BackendModule(Protocol):
    """The functions of a backend. All results are new contiguous tensors."""

    def why_unavailable(self) -> str | None:
        """None where the backend can run, otherwise the reason."""
        ...

    def philox(self, counter: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Words int64 ``[N, 4]`` of counters int64 ``[N, 4]`` under keys int64 ``[N, 2]`` (each entry a uint32)."""
        ...

    def standard_normal(
        self, sample_ids: torch.Tensor, numel: int, key: torch.Tensor, stream: int, offset: int
    ) -> torch.Tensor:
        """float32 ``[B, numel]``: elements ``offset`` to ``offset + numel`` of each sample, in one stream."""
        ...

    def draw_timesteps(self, draw: Draw, sample_ids: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """int64 ``[B]``: the number of thresholds <= word64 - 2**63 (signed).

        word64 = w0 | w1 << 32 of element 0 of stream "timestep"; with ``positions`` (int64 ``[B]`` in [0, total),
        total <= 2**31) it is replaced by floor((position * 2**64 + word64) / total).
        """
        ...

    def noise(self, operands: Operands, draw: Draw | None, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """(x_in ``[B, D]`` in ``dtype``, timesteps int64 ``[B]``).

        x_in: round((a_x * x0 + a_f * fixed) + a_n * noise), each step in float32. ``dtype`` is x0's, or with
        ``indices`` any of float32, bfloat16 and float16. Timesteps: those of the operands, or drawn as
        ``draw_timesteps`` does.
        """
        ...

    def loss(
        self, prediction: torch.Tensor, operands: Operands, mean: bool, gradient_scale: float | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(loss, gradient).

        residual = k_p * prediction - ((k_x * x0 + k_f * fixed) + k_n * noise), float32, each step rounded.
        loss: float32, mean of residual**2 over D, ``[B]``; with ``mean`` its mean over B, ``[]`` (0 if empty).
        gradient: None if ``gradient_scale`` is None, else ``[B, D]`` in prediction's dtype:
        round(float32(float64(k_p) * gradient_scale) * residual). Prediction and x0 may differ in dtype.
        """
        ...

    def ema(self, parameters: list[torch.Tensor], averages: list[list[torch.Tensor]], decays: torch.Tensor) -> None:
        """averages[k][i] += (1 - decays[k]) * (parameters[i] - averages[k][i]), in place; decays float64 ``[K]``.

        Averages are float32, parameters float32, bfloat16 or float16; every step rounded to float32. The elements of a
        parameter and of its averages lie in one order, without gaps (contiguous, or all channels_last).
        """
        ...

    def inner_products(self, tensors: list[torch.Tensor], rows: int, pairs: list[tuple[int, int]]) -> torch.Tensor:
        """float64 ``[R, P]``: sum over elements of row r of tensors[i] times row r of tensors[j], (i, j) = pairs[p].

        Tensors are ``[R / k, D]``, each vector serving k consecutive rows, with contiguous elements and any stride
        between vectors; products and sums are float64.
        """
        ...

    def nearest(
        self, queries: Rows, block: Rows, k: int, bound: np.ndarray | None, exclude: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """(squared distances ``[Q, k]``, indices int64 ``[Q, k]``, fallbacks): the fields of ``BlockNeighbors``."""
        ...

    def range_search(
        self, queries: Rows, block: Rows, radius_squared: float, exclude: np.ndarray | None
    ) -> RangeResult:
        """(query, index, squared distance) of the pairs within the radius, sorted in that order of keys."""
        ...

    def candidates(self, queries: Rows, block: Rows, bound: np.ndarray) -> RangeResult:
        """(query, row, squared distance) of uint8 pairs up to each query's int64 bound, sorted by query and row."""
        ...

    def pair_distances(self, queries: Rows, block: Rows, pairs: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
        """Squared distances of the pairs (starts ``[Q + 1]``, rows ``[n]``), or of all pairs ``[Q, M]``."""
        ...
