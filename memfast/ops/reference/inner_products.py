"""Inner products of pairs of tensors, one pair after another."""

import torch

from memfast.ops.arithmetic import ieee_arithmetic


def inner_products(tensors: list[torch.Tensor], rows: int, pairs: list[tuple[int, int]]) -> torch.Tensor:
    """result[r, p] = sum of row r of tensors[i] times that of tensors[j] in float64, (i, j) = pairs[p]."""
    result = tensors[0].new_empty((len(pairs), rows), dtype=torch.float64)
    with ieee_arithmetic(result.device):
        for number, pair in enumerate(pairs):
            # A tensor of fewer vectors: each serves as many consecutive rows.
            first, second = (tensors[n].double().repeat_interleave(rows // max(1, len(tensors[n])), 0) for n in pair)
            result[number] = (first * second).sum(1)
    return result.t()
