"""Inner products of pairs of tensors by the C++ kernel. Signature: ``memfast.ops.contract``."""

import torch

from memfast.ops import reference
from memfast.ops.compiled import CPU, address, load, number_types


def inner_products(tensors: list[torch.Tensor], rows: int, pairs: list[tuple[int, int]]) -> torch.Tensor:
    """result[r, p] = sum of row r of tensors[i] times that of tensors[j]; float64 tensors go to the reference."""
    if any(tensor.dtype == torch.float64 for tensor in tensors):
        return reference.inner_products(tensors, rows, pairs)
    kernels, types = load(CPU), number_types(CPU)
    result = torch.empty(len(pairs), rows, dtype=torch.float64, device="cpu")
    vectors = [
        kernels.Vectors(
            address(tensor, "tensors"), types[tensor.dtype], tensor.stride(0), rows // len(tensor) if rows else 1
        )
        for tensor in tensors
    ]
    kernels.inner_products(vectors, rows, tensors[0].shape[1], pairs, result.data_ptr(), torch.get_num_threads())
    return result.t()
