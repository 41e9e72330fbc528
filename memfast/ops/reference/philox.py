"""Philox4x32-10 in plain PyTorch (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3")."""

import torch

from memfast.ops.addresses import WORD

ROUNDS = 10
MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85


def philox(counter: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Four random words of each counter.

    Args:
        counter: int64 ``[..., 4]``, each entry an unsigned 32-bit word.
        key: int64 ``[..., 2]``, each entry an unsigned 32-bit word; broadcast against the counter.

    Returns:
        int64 ``[..., 4]``, each entry an unsigned 32-bit word.
    """
    c0, c1, c2, c3 = counter.unbind(-1)
    k0, k1 = key.unbind(-1)
    for _ in range(ROUNDS):
        high_0, low_0 = _multiply(c0, MULTIPLIER_0)
        high_1, low_1 = _multiply(c2, MULTIPLIER_1)
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        k0, k1 = (k0 + WEYL_0) & WORD, (k1 + WEYL_1) & WORD
    return torch.stack(torch.broadcast_tensors(c0, c1, c2, c3), -1)


def _multiply(word: torch.Tensor, multiplier: int) -> tuple[torch.Tensor, torch.Tensor]:
    # The 64-bit product may wrap into the sign bit; the mask takes the right 32 bits all the same.
    product = word * multiplier
    return (product >> 32) & WORD, product & WORD
