"""Inner products of pairs of tensors, one pair after another."""

import torch


def products(tensors: list[torch.Tensor], pairs: list[tuple[int, int]]) -> torch.Tensor:
    """result[g, p] = sum of tensors[i][g] * tensors[j][g] in float64, (i, j) = pairs[p]."""
    result = tensors[0].new_empty((len(tensors[0]), len(pairs)), dtype=torch.float64)
    for number, (first, second) in enumerate(pairs):
        result[:, number] = (tensors[first].double() * tensors[second].double()).sum(1)
    return result
