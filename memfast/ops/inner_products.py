"""Inner products of named pairs of tensors, row by row, each tensor read once."""

import math
from collections.abc import Sequence

import torch

from memfast.foundation.errors import InputError
from memfast.ops.checks import FLOAT_DTYPES, check_device, check_memory, describe
from memfast.ops.registry import implementation

DTYPES = (*FLOAT_DTYPES, torch.float64)


def inner_products(
    tensors: Sequence[torch.Tensor], pairs: Sequence[tuple[int, int]], *, backend: str = "auto"
) -> torch.Tensor:
    """``result[r, p] = sum over elements of row r of tensors[i] times row r of tensors[j]``, ``(i, j) = pairs[p]``.

    Products and sums are float64 (products of narrower numbers are exact in it). From the products of a few vectors
    follow their norms, cosines, distances and least-squares weights; this op reads the vectors once for all of them.

    Args:
        tensors: each ``[R, ...]`` with the same number of elements per row, or ``[R / k, ...]`` for vectors that serve
            k consecutive rows each (``[1, ...]``: one for all); float32, bfloat16, float16 or float64. Rows may be
            strided, so parts of a larger tensor need no copy.
        pairs: numbers of two tensors each; ``(i, i)`` is the squared norm.
        backend: a backend's name, or ``auto``.

    Returns:
        float64 ``[R, len(pairs)]`` on the tensors' device, the rows of one pair next to each other in memory.

    Raises:
        InputError: no tensors, shapes or devices that do not fit, another dtype, a pair without its tensor.

    >>> a, b = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[10.0, 1.0]])
    >>> inner_products([a, b], [(0, 1), (0, 0)]).tolist()
    [[12.0, 5.0], [34.0, 25.0]]
    """
    if not tensors:
        raise InputError("tensors", expected="at least one", received="none")
    lengths = [tensor.shape[0] for tensor in tensors if tensor.ndim]
    count = max(lengths, default=0) if all(lengths) else 0
    numel = math.prod(tensors[0].shape[1:])
    rows = [_rows(f"tensors[{number}]", tensor, count, numel, tensors[0]) for number, tensor in enumerate(tensors)]
    numbers = [number for pair in pairs for number in pair]
    if len(numbers) != 2 * len(pairs) or (numbers and not 0 <= min(numbers) <= max(numbers) < len(tensors)):
        raise InputError("pairs", expected=f"two numbers from 0 to {len(tensors) - 1} each", received=str(list(pairs)))
    return implementation("inner_products", rows[0].device, backend)(rows, count, list(pairs))


def _rows(name: str, tensor: torch.Tensor, count: int, numel: int, like: torch.Tensor) -> torch.Tensor:
    """``[count / k, numel]``, the elements of a vector contiguous."""
    if not isinstance(tensor, torch.Tensor) or tensor.dtype not in DTYPES or tensor.ndim == 0:
        raise InputError(name, expected="a floating tensor [R, ...]", received=describe(tensor))
    length, *shape = tensor.shape
    if (count % length if count else length > 1) or math.prod(shape) != numel:
        raise InputError(
            name, expected=f"{count} rows of {numel} elements, or a divisor of that many", received=describe(tensor)
        )
    check_device(name, tensor, like)
    check_memory(name, tensor)
    rows = (tensor.detach() if tensor.requires_grad else tensor).reshape(length, numel)
    return rows if numel <= 1 or rows.stride(1) == 1 else rows.contiguous()
