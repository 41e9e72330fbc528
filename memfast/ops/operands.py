"""The two values that noise and loss travel with, from the public op through the contract to every backend.

torch.library knows flat argument lists only. This file is the one place that flattens and unflattens:
``tuple(operands)`` and ``Draw.flat`` make the arguments of an op, ``split`` takes the value off their front again,
and the ``*_SCHEMA`` strings are their parts of an op's schema. csrc/operands.h holds the same values as addresses.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

OPERANDS_SCHEMA = (
    "Tensor x0, Tensor table, Tensor? timesteps, Tensor sample_ids, Tensor key, Tensor? fixed_ids, Tensor? indices,"
    " SymInt flip_width"
)
DRAW_SCHEMA = "Tensor? thresholds, Tensor? positions, SymInt total"


class Operands(NamedTuple):
    """What a batch is noised with.

    Attributes:
        x0: clean data ``[B, ...]`` float32, bfloat16 or float16; with ``indices`` a uint8 data set ``[N, ...]``.
        table: float32 ``[T, 7]``, columns a_x, a_f, a_n, k_p, k_x, k_f, k_n.
        timesteps: int64 ``[B]``, row numbers of ``table``; None where the op draws them.
        sample_ids: int64 ``[B]``, from 0 to 2**56 - 1: addresses of the fresh noise.
        key: int64 ``[2]``: seed and step.
        fixed_ids: int64 ``[B]``, addresses of the fixed noise; None leaves its term out.
        indices: int64 ``[B]``, the rows of the data set that make up the batch; None: ``x0`` is the batch.
        flip_width: with ``indices``, every so many elements are reversed for the samples whose augmentation word is
            odd; 0 reverses none.
    """

    x0: torch.Tensor
    table: torch.Tensor
    timesteps: torch.Tensor | None
    sample_ids: torch.Tensor
    key: torch.Tensor
    fixed_ids: torch.Tensor | None = None
    indices: torch.Tensor | None = None
    flip_width: int = 0

    @staticmethod
    def split(arguments: Sequence[Any]) -> tuple["Operands", Sequence[Any]]:
        """(the operands that an op's arguments begin with, the other arguments)."""
        return Operands(*arguments[:OPERANDS]), arguments[OPERANDS:]

    @property
    def shape(self) -> tuple[int, ...]:
        """The batch's shape ``[B, ...]``."""
        return (self.sample_ids.shape[0], *self.x0.shape[1:])

    def dense(self) -> "Operands":
        """All tensors contiguous, ``x0`` as ``[B, D]`` or ``[N, D]``: what a backend sees."""
        return Operands(
            flat(self.x0), self.table.contiguous(), dense(self.timesteps), self.sample_ids.contiguous(),
            self.key.contiguous(), dense(self.fixed_ids), dense(self.indices), self.flip_width,
        )  # fmt: skip


OPERANDS = len(Operands._fields)


class Draw(NamedTuple):
    """A density that timesteps are drawn from.

    Attributes:
        thresholds: int64 ``[n]`` ascending, floor(cdf_j * 2**64) - 2**63 (:func:`memfast.timesteps.thresholds`).
        positions: int64 ``[B]``, the samples' places in the global batch: stratified draws, one per stratum. None:
            independent draws.
        total: the size of the global batch, at most 2**31; needed with ``positions``.
    """

    thresholds: torch.Tensor
    positions: torch.Tensor | None = None
    total: int | None = None

    @staticmethod
    def flat(draw: "Draw | None") -> tuple[torch.Tensor | None, torch.Tensor | None, int]:
        """A draw, or none, as arguments of an op."""
        return (None, None, 1) if draw is None else (draw.thresholds, draw.positions, draw.total or 1)

    @staticmethod
    def split(arguments: Sequence[Any]) -> tuple["Draw | None", Sequence[Any]]:
        """(the draw that an op's arguments begin with, its tensors contiguous; the other arguments)."""
        thresholds, positions, total, *others = arguments
        return None if thresholds is None else Draw(thresholds.contiguous(), dense(positions), total), others


def flip_width(dataset: torch.Tensor, flip: bool) -> int:
    """How many elements a flip reverses at a time: the last axis; 0 for no flip."""
    return dataset.shape[-1] if flip and isinstance(dataset, torch.Tensor) and dataset.ndim else 0


def flat(tensor: torch.Tensor) -> torch.Tensor:
    """``[B, ...]`` as contiguous ``[B, D]`` in C order of the logical shape; a view where that is possible."""
    if tensor.ndim == 2:
        return tensor.contiguous()
    return tensor.reshape(tensor.shape[0], math.prod(tensor.shape[1:])).contiguous()


def dense(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """The tensor, contiguous, or None."""
    return None if tensor is None else tensor.contiguous()
