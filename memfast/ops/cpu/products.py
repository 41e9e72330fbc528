"""Inner products of pairs of tensors by the C++ kernel. Signature: ``memfast.ops.contract``."""

import torch

from memfast.ops import reference
from memfast.ops.cpu.module import NUMBERS, kernels


def products(tensors: list[torch.Tensor], rows: int, pairs: list[tuple[int, int]]) -> torch.Tensor:
    """result[r, p] = sum of row r of tensors[i] times that of tensors[j]; float64 tensors go to the reference."""
    if any(tensor.dtype == torch.float64 for tensor in tensors):
        return reference.products(tensors, rows, pairs)
    result = torch.empty(len(pairs), rows, dtype=torch.float64, device="cpu")
    kernels().inner_products(
        [tensor.data_ptr() for tensor in tensors],
        [NUMBERS[tensor.dtype] for tensor in tensors],
        [tensor.stride(0) for tensor in tensors],
        [rows // len(tensor) if rows else 1 for tensor in tensors],
        rows,
        tensors[0].shape[1],
        [number for pair in pairs for number in pair],
        result.data_ptr(),
        torch.get_num_threads(),
    )
    return result.t()
