"""Rows of numbers as the search kernels take them: an array or a tensor, checked, with the name of its dtype."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from memfast.foundation.arrays import plain_array, require_dense
from memfast.foundation.errors import InputError

FLOAT_DTYPES = ("float16", "bfloat16", "float32", "float64")
DTYPES = ("uint8", *FLOAT_DTYPES)
# The kernels number rows with 32 bits.
MAX_ROWS = 2**31 - 1
# Beyond this a float64 squared distance could overflow.
MAX_MAGNITUDE = 1e150


@dataclass(frozen=True)
class Rows:
    """A matrix whose rows are the points of a search.

    Attributes:
        values: ``[rows, D]``. On the CPU a NumPy array with contiguous rows (bfloat16 as its uint16 bits); on an
            accelerator the tensor itself.
        dtype: one of ``DTYPES``.
        name: what error messages call it.
    """

    values: Any
    dtype: str
    name: str

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, D)."""
        return int(self.values.shape[0]), int(self.values.shape[1])

    @property
    def device(self) -> torch.device:
        """Where the numbers are."""
        return self.values.device if isinstance(self.values, torch.Tensor) else torch.device("cpu")

    def __getitem__(self, key: Any) -> "Rows":
        return Rows(self.values[key], self.dtype, self.name)

    def to_float64(self) -> np.ndarray:
        """The numbers as float64, on the CPU; every dtype converts without loss."""
        values = self.values.cpu() if isinstance(self.values, torch.Tensor) else self.values
        if self.dtype == "bfloat16" and isinstance(values, np.ndarray):
            return (values.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        if isinstance(values, torch.Tensor):
            values = values.double().numpy() if self.dtype != "uint8" else values.numpy()
        return values.astype(np.float64)


def as_rows(data: Any, name: str) -> Rows:
    """Rows of an array or tensor; nothing is copied unless its rows are not contiguous, or its numbers not aligned.

    Args:
        data: ``[rows, D]``, uint8, float16, bfloat16 (tensors), float32 or float64.
        name: what error messages call it.

    Raises:
        InputError: not two-dimensional, D = 0, more than 2**31 - 1 rows, another dtype, a masked array or a tensor
            that is not dense.
    """
    if isinstance(data, Rows):
        return data
    if isinstance(data, torch.Tensor):
        require_dense(name, data)
        dtype = str(data.dtype).removeprefix("torch.")
    else:
        data = plain_array(name, data)
        dtype = data.dtype.name if data.dtype.isnative else str(data.dtype)
    if data.ndim != 2 or data.shape[1] < 1:
        raise InputError(
            name, expected="a matrix [rows, D] with D >= 1", received=f"shape {list(data.shape)}",
            do="Flatten each item into one row.",
        )  # fmt: skip
    if dtype not in DTYPES:
        raise InputError(
            name, expected="numbers of kind " + ", ".join(DTYPES), received=dtype,
            do="Convert them first, if that loses nothing.",
        )  # fmt: skip
    if data.shape[0] > MAX_ROWS:
        raise InputError(
            name, expected=f"at most {MAX_ROWS} rows", received=str(data.shape[0]), do="Search it in blocks."
        )
    if isinstance(data, torch.Tensor):
        data = data.detach()
        if data.device.type == "cpu":
            data = (data.view(torch.uint16) if dtype == "bfloat16" else data).numpy()
    if isinstance(data, np.ndarray) and not _is_readable(data):
        data = np.require(data, requirements=["C", "A"])
    return Rows(data, dtype, name)


def check_finite(rows: Rows, row: int) -> None:
    """Raise the error that names ``row`` unless its numbers are finite and not too large."""
    values = rows[row : row + 1].to_float64()
    if not np.isfinite(values).all():
        raise InputError(
            rows.name, expected="finite numbers", received=f"NaN or infinity in row {row}",
            do="Remove or repair that row.",
        )  # fmt: skip
    if np.abs(values).max() > MAX_MAGNITUDE:
        raise InputError(
            rows.name, expected=f"magnitudes up to {MAX_MAGNITUDE:g}", received=f"a larger one in row {row}",
            do="Scale the data.",
        )  # fmt: skip


def _is_readable(data: np.ndarray) -> bool:
    """Whether a kernel can read the array where it is: aligned numbers, side by side in rows that follow each other."""
    return data.flags.aligned and data.strides[1] == data.itemsize and data.strides[0] >= 0
