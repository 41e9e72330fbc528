"""Inner products of pairs of tensors by the C++ kernel. Signature: ``memfast.ops.contract``."""

import torch

from memfast.ops import reference
from memfast.ops.cpu.module import NUMBERS, kernels


def products(tensors: list[torch.Tensor], pairs: list[tuple[int, int]]) -> torch.Tensor:
    """result[g, p] = sum of tensors[i][g] * tensors[j][g] in float64; float64 tensors go to the reference."""
    if any(tensor.dtype == torch.float64 for tensor in tensors):
        return reference.products(tensors, pairs)
    rows, elements = tensors[0].shape
    result = torch.zeros(rows, len(pairs), dtype=torch.float64)
    kernels().inner_products(
        [tensor.data_ptr() for tensor in tensors],
        [NUMBERS[tensor.dtype] for tensor in tensors],
        [tensor.stride(0) for tensor in tensors],
        rows,
        elements,
        [number for pair in pairs for number in pair],
        result.data_ptr(),
        torch.get_num_threads(),
    )
    return result
