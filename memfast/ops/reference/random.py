"""Words and normals by address, and timestep draws."""

import torch

from memfast.ops.addresses import STREAMS, WORD
from memfast.ops.checks import check_range, check_values
from memfast.ops.reference.normal import box_muller
from memfast.ops.reference.philox import philox

# Digits of the long division; with 2**16 the remainder times a digit stays inside an int64 for 2**31 strata.
DIGIT_BITS = 16


def words(sample_ids: torch.Tensor, blocks: torch.Tensor, key: torch.Tensor, stream: int) -> torch.Tensor:
    """Words int64 ``[B, n, 4]`` of counter blocks int64 ``[n]`` (element // 4) of each sample."""
    ids = sample_ids[:, None]
    counter = (blocks[None], ids & WORD, key[1], (stream << 24) | ((ids >> 32) & 0xFFFFFF))
    return philox(
        torch.stack(torch.broadcast_tensors(*counter), -1), torch.stack((key[0] & WORD, (key[0] >> 32) & WORD))
    )


def normals(sample_ids: torch.Tensor, numel: int, key: torch.Tensor, stream: int, offset: int = 0) -> torch.Tensor:
    """float32 ``[B, numel]``, without checks."""
    first, last = offset // 4, (offset + numel + 3) // 4
    w0, w1, w2, w3 = words(sample_ids, torch.arange(first, last, device=sample_ids.device), key, stream).unbind(-1)
    quads = torch.stack((*box_muller(w0, w1), *box_muller(w2, w3)), -1).flatten(1)
    return quads[:, offset - 4 * first :][:, :numel].contiguous()


def standard_normal(sample_ids: torch.Tensor, numel: int, key: torch.Tensor, stream: int, offset: int) -> torch.Tensor:
    """float32 ``[B, numel]``: elements ``offset`` to ``offset + numel`` of each sample."""
    if sample_ids.device.type == "cpu":
        check_values(key, sample_ids=sample_ids)
    return normals(sample_ids, numel, key, stream, offset)


def draw_timesteps(
    thresholds: torch.Tensor,
    sample_ids: torch.Tensor,
    key: torch.Tensor,
    positions: torch.Tensor | None,
    total: int,
) -> torch.Tensor:
    """int64 ``[B]``: the number of thresholds that a 64-bit word has reached."""
    if sample_ids.device.type == "cpu":
        check_values(key, sample_ids=sample_ids)
        if positions is not None and positions.numel():
            check_range("positions", positions, total - 1)
    w0, w1, _, _ = words(sample_ids, sample_ids.new_zeros(1), key, STREAMS["timestep"])[:, 0].unbind(-1)
    if positions is not None:
        w0, w1 = _stratified(w0, w1, positions, total)
    # Bit 63 flipped is 2**63 subtracted, as signed integers.
    signed = (w0 | (w1 << 32)) ^ torch.iinfo(torch.int64).min
    return torch.searchsorted(thresholds, signed, right=True)


def _stratified(
    w0: torch.Tensor, w1: torch.Tensor, positions: torch.Tensor, total: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two words of floor((position * 2**64 + word64) / total), by long division."""
    rest, quotient = positions, []
    for word, shift in ((w1, DIGIT_BITS), (w1, 0), (w0, DIGIT_BITS), (w0, 0)):
        value = (rest << DIGIT_BITS) | ((word >> shift) & 0xFFFF)
        quotient.append(value // total)
        rest = value % total
    return (quotient[2] << DIGIT_BITS) | quotient[3], (quotient[0] << DIGIT_BITS) | quotient[1]
