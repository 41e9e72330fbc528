"""Several moving averages of many parameters in one launch: each parameter is read once for up to four of them.

The kernel finds its tensors through a table of addresses on the device. The table is built at the first call and kept,
so later calls (and captured graphs) copy nothing to the device; a table that a graph has captured is kept for good.
"""

from collections import OrderedDict

import numpy as np
import torch
import triton
import triton.language as tl

from memfast.foundation.errors import InputError
from memfast.ops.triton.launch import EXACT, on

CHUNK = 2048
AVERAGES_AT_ONCE = 4
ALIGNMENT = 16
KEPT_TABLES = 16
_tables: OrderedDict[tuple, tuple[torch.Tensor, torch.Tensor]] = OrderedDict()
# A graph reads these at every replay, and nothing says when it is gone.
_captured: dict[tuple, tuple[torch.Tensor, torch.Tensor]] = {}
_POINTERS = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


def ema(parameters: list[torch.Tensor], averages: list[list[torch.Tensor]], decays: torch.Tensor) -> None:
    """averages[k][i] += (1 - decays[k]) * (parameters[i] - averages[k][i]), in place."""
    weights = (1.0 - decays.double()).float().tolist()
    for first in range(0, len(averages), AVERAGES_AT_ONCE):
        _launch(parameters, averages[first : first + AVERAGES_AT_ONCE], weights[first : first + AVERAGES_AT_ONCE])


def _launch(parameters, averages, weights):
    padded = [*weights, *[0.0] * (AVERAGES_AT_ONCE - len(weights))]
    for dtype, kind in _POINTERS.items():
        chosen = [i for i, parameter in enumerate(parameters) if parameter.dtype == dtype and parameter.numel()]
        if not chosen:
            continue
        columns = tuple(
            (parameters[i].numel(), parameters[i].data_ptr(), *(tensors[i].data_ptr() for tensors in averages))
            for i in chosen
        )
        device = parameters[chosen[0]].device
        addresses, places = _table(columns, device)
        aligned = all(address % ALIGNMENT == 0 for column in columns for address in column[1:])
        with on(addresses):
            ema_kernel[(len(places),)](addresses, places, *padded, kind, len(averages), aligned, CHUNK, **EXACT)


def _table(columns: tuple, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    key = (columns, device)
    capturing = _is_capturing(device)
    if key in _tables:
        _tables.move_to_end(key)
        if capturing:
            _captured[key] = _tables[key]
        return _tables[key]
    if capturing:
        raise InputError(
            "parameters and averages", expected="tensors that ema has seen before the capture of a CUDA graph",
            received="new ones", do="Call it once before, with the same tensors (contiguous or alike in memory).",
        )  # fmt: skip
    places = np.concatenate(
        [
            np.stack((np.full(-(-column[0] // CHUNK), number), np.arange(0, column[0], CHUNK)), 1)
            for number, column in enumerate(columns)
        ]
    )
    made = torch.tensor(columns, dtype=torch.int64, device=device), torch.from_numpy(places.astype(np.int64)).to(device)
    _tables[key] = made
    if len(_tables) > KEPT_TABLES:
        _tables.popitem(last=False)
    return made


def _is_capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


@triton.jit
def ema_kernel(
    addresses, places, weight_0, weight_1, weight_2, weight_3,
    PARAMETER: tl.constexpr, AVERAGES: tl.constexpr, ALIGNED: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """average += weight * (parameter - average) over one chunk of one tensor, for up to four averages.

    ``places`` int64 ``[programs, 2]`` holds a tensor's number and the chunk's first element; ``addresses`` int64
    ``[tensors, 2 + AVERAGES]`` its length, its address and those of its averages.
    """
    row = addresses + tl.load(places + 2 * tl.program_id(0)) * (2 + AVERAGES)
    element = tl.load(places + 2 * tl.program_id(0) + 1) + tl.arange(0, CHUNK)
    inside = element < tl.load(row)
    parameter = tl.load(row + 1).to(tl.pointer_type(PARAMETER))
    if ALIGNED:
        parameter = tl.multiple_of(parameter, 16)
    value = tl.load(parameter + element, mask=inside, other=0.0).to(tl.float32)
    for k in tl.static_range(AVERAGES):
        weight = weight_0
        if k == 1:
            weight = weight_1
        if k == 2:
            weight = weight_2
        if k == 3:
            weight = weight_3
        average = tl.load(row + 2 + k).to(tl.pointer_type(tl.float32))
        if ALIGNED:
            average = tl.multiple_of(average, 16)
        old = tl.load(average + element, mask=inside, other=0.0)
        tl.store(average + element, old + weight * (value - old), mask=inside)
