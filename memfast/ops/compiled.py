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
    x0, table, timesteps, sample_ids, key, fixed_ids, indices, flip_width = operands
    try:
        return load(name).Operands(
            sample_ids.shape[0], x0.shape[1], x0.data_ptr(), number_types(name)[x0.dtype], table.data_ptr(),
            table.shape[0], _or_zero(timesteps), sample_ids.data_ptr(), key.data_ptr(), _or_zero(fixed_ids),
            _or_zero(indices), x0.shape[0], flip_width,
        )  # fmt: skip
    except ValueError as error:
        raise _misaligned(str(error)) from None


def addresses_struct(name: str, sample_ids: torch.Tensor, key: torch.Tensor, numel: int = 0) -> Any:
    """The module's ``Operands`` with nothing but sample ids and key: for normals and draws."""
    try:
        return load(name).Operands(sample_ids.shape[0], numel, sample_ids.data_ptr(), key.data_ptr())
    except ValueError as error:
        raise _misaligned(str(error)) from None


def draw_struct(name: str, draw: Draw | None, timesteps: torch.Tensor) -> Any:
    """The module's ``Draw``, which writes into ``timesteps``; without thresholds where there is no draw."""
    if draw is None:
        return load(name).Draw(0, 0, 0, 1, timesteps.data_ptr())
    thresholds, positions, total = draw
    # A density of one bin has no thresholds, and an empty tensor no address: any address says "draw".
    first = thresholds.data_ptr() or timesteps.data_ptr()
    try:
        return load(name).Draw(first, thresholds.shape[0], _or_zero(positions), total or 1, timesteps.data_ptr())
    except ValueError as error:
        raise _misaligned(str(error)) from None


def address(tensor: torch.Tensor, name: str) -> int:
    """Where a tensor's numbers are.

    Raises:
        InputError: not on a multiple of the size of a number, as the kernels read it.
    """
    pointer = tensor.data_ptr()
    if pointer % tensor.element_size():
        raise _misaligned(name)
    return pointer


def _or_zero(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _misaligned(name: str) -> InputError:
    return InputError(
        name, expected="numbers at addresses that are multiples of their size", received="others",
        do=f"Pass {name}.clone().",
    )  # fmt: skip
