"""The backends, best first, one row each; and which of them serves an op on a device.

A backend is a package with the files of ``FILES`` that it needs, each with one function per op, named as the op
(``memfast.ops.contract`` has their signatures). To add one: write the package and add a row. An explicitly
requested backend works or raises; only ``auto`` falls back, in the order of the rows.
"""

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from memfast.foundation.errors import BackendUnavailableError, InputError
from memfast.ops import compiled

# From when it is loaded the module sees forks. A child that does not know that it is one would wait for ever for
# PyTorch's threads, which only its parent has. Without the module, its backend's probe says why.
with contextlib.suppress(ImportError):
    compiled.load(compiled.CPU)

BACKEND_VARIABLE = "MEMFAST_BACKEND"


@dataclass(frozen=True)
class Backend:
    """One row of the registry.

    Attributes:
        name: what users write, for example ``"cpu"``.
        module: the package that holds its ops.
        devices: the torch device types it computes on.
        probe: returns None where it can run, otherwise the reason why not.
        automatic_on: the device types where ``auto`` may choose it.
    """

    name: str
    module: str
    devices: tuple[str, ...]
    probe: Callable[[], str | None]
    automatic_on: tuple[str, ...]


def _probe_module(name: str) -> Callable[[], str | None]:
    """The probe of a backend whose package has a function ``why_unavailable() -> str | None``."""
    return lambda: importlib.import_module(name).why_unavailable()


# Where a backend's function for an op stands. A file is imported with the first op that is asked for.
FILES = {
    "philox": "random",
    "standard_normal": "random",
    "draw_timesteps": "random",
    "noise": "noise",
    "loss": "loss",
    "ema": "ema",
    "inner_products": "inner_products",
    "nearest": "nearest",
    "range_search": "nearest",
    "candidates": "pairs",
    "pair_distances": "pairs",
}
EVERY_DEVICE = ("cpu", "cuda", "mps", "xpu")
BACKENDS = (
    Backend("cuda", "memfast.ops.cuda", ("cuda",), _probe_module("memfast.ops.cuda"), ("cuda",)),
    Backend("triton", "memfast.ops.triton", ("cuda", "cpu"), _probe_module("memfast.ops.triton"), ("cuda",)),
    Backend("cpu", "memfast.ops.cpu", ("cpu",), _probe_module("memfast.ops.cpu"), ("cpu",)),
    Backend("reference", "memfast.ops.reference", EVERY_DEVICE, lambda: None, EVERY_DEVICE),
)


@cache
def why_unavailable(name: str) -> str | None:
    """None where the backend can run, otherwise its probe's reason."""
    return _row(name).probe()


def implementation(op: str, device: torch.device, requested: str = "auto") -> Callable:
    """The function that computes ``op`` on ``device``.

    Args:
        op: the op's name.
        device: the device of its tensors.
        requested: a backend's name, or ``auto`` (then the variable MEMFAST_BACKEND counts, if it is set).

    Raises:
        InputError: no backend has that name.
        BackendUnavailableError: the requested backend cannot run here, on this device, or lacks the op.
    """
    if requested == "auto":
        requested = os.environ.get(BACKEND_VARIABLE, "auto")
    return _resolve(op, device.type, requested)


@cache
def _resolve(op: str, device_type: str, requested: str) -> Callable:
    if requested != "auto":
        row = _row(requested)
        reason = _why_not(row, op, device_type)
        if reason:
            raise BackendUnavailableError(f"backend '{requested}' cannot compute '{op}' on {device_type}: {reason}")
        return getattr(importlib.import_module(_file(row, op)), op)
    for row in BACKENDS:
        if device_type in row.automatic_on and not _why_not(row, op, device_type):
            return getattr(importlib.import_module(_file(row, op)), op)
    raise BackendUnavailableError(f"no backend computes '{op}' on {device_type}")


def _why_not(row: Backend, op: str, device_type: str) -> str | None:
    if device_type not in row.devices:
        return f"it computes on {' and '.join(row.devices)} tensors"
    reason = why_unavailable(row.name)
    if reason:
        return reason
    known = op in FILES and importlib.util.find_spec(_file(row, op)) is not None
    return None if known else "it does not implement this op"


def _row(name: str) -> Backend:
    for row in BACKENDS:
        if row.name == name:
            return row
    names = ", ".join(["auto", *(row.name for row in BACKENDS)])
    raise InputError("backend", expected=f"one of {names}", received=repr(name))


def _file(row: Backend, op: str) -> str:
    return f"{row.module}.{FILES[op]}"
