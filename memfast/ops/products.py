"""Inner products of named pairs of tensors, row by row, each tensor read once."""

import math
from collections.abc import Sequence

import torch

from memfast.foundation.errors import InputError
from memfast.ops.checks import FLOAT_DTYPES, check_device, describe
from memfast.ops.registry import implementation

DTYPES = (*FLOAT_DTYPES, torch.float64)


@torch.no_grad()
def products(
    tensors: Sequence[torch.Tensor], pairs: Sequence[tuple[int, int]], *, backend: str = "auto"
) -> torch.Tensor:
    """``result[g, p] = sum over elements of tensors[i][g] * tensors[j][g]`` for the pair ``(i, j)`` of number p.

    Products and sums are float64 (products of narrower numbers are exact in it). From the products of a few vectors
    follow their norms, cosines, distances and least-squares weights; this op reads the vectors once for all of them.

    Args:
        tensors: each ``[G, ...]`` with the same number of elements per row, or ``[1, ...]`` for one vector that serves
            all rows; float32, bfloat16, float16 or float64. Rows may be strided, so parts of a larger tensor need no
            copy.
        pairs: numbers of two tensors each; ``(i, i)`` is the squared norm.
        backend: a backend's name, or ``auto``.

    Returns:
        float64 ``[G, len(pairs)]`` on the tensors' device.

    Raises:
        InputError: no tensors, shapes or devices that do not fit, another dtype, a pair without its tensor.

    >>> a, b = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[10.0, 1.0]])
    >>> products([a, b], [(0, 1), (0, 0)]).tolist()
    [[12.0, 5.0], [34.0, 25.0]]
    """
    if not tensors:
        raise InputError("tensors", expected="at least one", received="none")
    count = max((len(tensor) for tensor in tensors if tensor.ndim), default=0)
    if any(len(tensor) == 0 for tensor in tensors if tensor.ndim):
        count = 0
    numel = math.prod(tensors[0].shape[1:])
    fits, first = torch.Size((count, numel)), tensors[0]
    rows = []
    for number, tensor in enumerate(tensors):
        # The usual case at the price of a comparison: a step of a trace has some fifty tensors.
        ready = tensor.shape == fits and tensor.dtype is first.dtype is torch.float32 and tensor.device == first.device
        usual = ready and (numel <= 1 or tensor.stride(1) == 1)
        rows.append(tensor if usual else _rows(f"tensors[{number}]", tensor, count, numel, first))
    numbers = [number for pair in pairs for number in pair]
    if len(numbers) != 2 * len(pairs) or (numbers and not 0 <= min(numbers) <= max(numbers) < len(tensors)):
        raise InputError("pairs", expected=f"two numbers from 0 to {len(tensors) - 1} each", received=str(list(pairs)))
    return implementation("products", rows[0].device, backend)(rows, list(pairs))


def _rows(name: str, tensor: torch.Tensor, count: int, numel: int, like: torch.Tensor) -> torch.Tensor:
    """``[count, numel]``, the elements of a row contiguous."""
    if not isinstance(tensor, torch.Tensor) or tensor.dtype not in DTYPES or tensor.ndim == 0:
        raise InputError(name, expected="a floating tensor [G, ...]", received=describe(tensor))
    if len(tensor) not in (1, count) or math.prod(tensor.shape[1:]) != numel:
        raise InputError(name, expected=f"{count} rows of {numel} elements, or one", received=describe(tensor))
    check_device(name, tensor, like)
    rows = tensor.detach().reshape(len(tensor), numel)
    if numel > 1 and rows.stride(1) != 1:
        rows = rows.contiguous()
    return rows.expand(count, numel)
