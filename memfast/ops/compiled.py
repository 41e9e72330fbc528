"""The compiled modules: the one place that loads them, reads their number types and fills their structs.

``memfast._C`` holds the CPU kernels, ``memfast._C_cuda`` those for CUDA; each takes addresses in structs of
csrc/operands.h.
"""

import importlib
from functools import cache
from types import ModuleType
from typing import Any

import torch

from memfast.foundation.errors import InputError
from memfast.ops.operands import Draw, Operands

CPU, CUDA = "memfast._C", "memfast._C_cuda"


@cache
def load(name: str) -> ModuleType:
    """The compiled module ``CPU`` or ``CUDA``.

    Raises:
        ImportError: it was not built, or cannot be loaded here.
    """
    return importlib.import_module(name)


@cache
def number_types(name: str) -> dict[torch.dtype, Any]:
    """The module's ``NumberType`` of each dtype it knows: csrc/number_types.h is the only list of them."""
    return {getattr(torch, key): value for key, value in load(name).NumberType.__members__.items()}


def operands_struct(name: str, operands: Operands) -> Any:
    """The module's ``Operands``, of contiguous tensors."""
    o = operands
    return load(name).Operands(
        o.sample_ids.shape[0], o.x0.shape[1], address(o.x0, "x0"), number_types(name)[o.x0.dtype],
        address(o.table, "table"), o.table.shape[0], address(o.timesteps, "timesteps"),
        address(o.sample_ids, "sample_ids"), address(o.key, "key"), address(o.fixed_ids, "fixed_ids"),
        address(o.indices, "indices"), o.x0.shape[0], o.flip_width,
    )  # fmt: skip


def addresses_struct(name: str, sample_ids: torch.Tensor, key: torch.Tensor, numel: int = 0) -> Any:
    """The module's ``Operands`` with nothing but sample ids and key: for normals and draws."""
    return load(name).Operands(
        sample_ids.shape[0], numel, 0, number_types(name)[torch.float32], 0, 0, 0, address(sample_ids, "sample_ids"),
        address(key, "key"), 0, 0, 0, 0,
    )  # fmt: skip


def draw_struct(name: str, draw: Draw | None, timesteps: torch.Tensor) -> Any:
    """The module's ``Draw``, which writes into ``timesteps``; without thresholds where there is no draw."""
    if draw is None:
        return load(name).Draw(0, 0, 0, 1, timesteps.data_ptr())
    # A density of one bin has no thresholds, and an empty tensor no address: any address says "draw".
    thresholds = address(draw.thresholds, "thresholds") or timesteps.data_ptr()
    positions = address(draw.positions, "positions")
    return load(name).Draw(thresholds, draw.thresholds.shape[0], positions, draw.total or 1, timesteps.data_ptr())


def address(tensor: torch.Tensor | None, name: str) -> int:
    """Where a tensor's numbers are; 0 for None.

    Raises:
        InputError: not on a multiple of the size of a number, as the kernels read it.
    """
    if tensor is None:
        return 0
    pointer = tensor.data_ptr()
    if pointer % tensor.element_size():
        raise InputError(
            name, expected=f"numbers at addresses that are multiples of {tensor.element_size()} bytes",
            received=f"an address that is {pointer % tensor.element_size()} more", do=f"Pass {name}.clone().",
        )  # fmt: skip
    return pointer
