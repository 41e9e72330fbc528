"""Words, normals and timestep draws by Triton kernels. Signatures: ``memfast.ops.contract``."""

import torch
import triton
import triton.language as tl

from memfast.ops.checks import check_addresses, check_draw_values
from memfast.ops.operands import Draw
from memfast.ops.triton.device import drawn, normals
from memfast.ops.triton.device import philox as philox_rounds
from memfast.ops.triton.launch import EXACT, on, options, tiles

ROWS = 128


def philox(counter: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Words int64 ``[N, 4]``."""
    out = torch.empty_like(counter)
    if len(counter):
        with on(counter):
            philox_kernel[(triton.cdiv(len(counter), ROWS),)](out, counter, key, len(counter), ROWS, **EXACT)
    return out


def standard_normal(sample_ids: torch.Tensor, numel: int, key: torch.Tensor, stream: int, offset: int) -> torch.Tensor:
    """float32 ``[B, numel]``."""
    if key.device.type == "cpu":
        check_addresses(key, sample_ids=sample_ids)
    out = torch.empty(len(sample_ids), numel, dtype=torch.float32, device=sample_ids.device)
    if out.numel():
        shift = offset % 4
        quads, chunks = tiles("sample_ids", len(sample_ids), numel + shift)
        with on(out):
            standard_normal_kernel[(len(sample_ids) * chunks,)](
                out, sample_ids, key, numel, offset // 4, shift, chunks, stream, quads, **options(quads)
            )
    return out


def draw_timesteps(draw: Draw, sample_ids: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """int64 ``[B]``."""
    if key.device.type == "cpu":
        check_draw_values(draw, sample_ids, key)
    out = torch.empty_like(sample_ids)
    if len(out):
        count = len(draw.thresholds)
        with on(out):
            draw_timesteps_kernel[(triton.cdiv(len(out), ROWS),)](
                out, draw.thresholds, sample_ids, key, sample_ids if draw.positions is None else draw.positions,
                len(out), count, draw.total or 1, draw.positions is not None, count.bit_length(), ROWS, **EXACT,
            )  # fmt: skip
    return out


@triton.jit
def philox_kernel(out, counter, key, count, BLOCK: tl.constexpr):
    """out[i] = words of counter[i] under key[i]: int64 ``[N, 4]``, ``[N, 4]``, ``[N, 2]``."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = row < count
    c0 = tl.load(counter + row * 4, mask=inside, other=0).to(tl.uint32)
    c1 = tl.load(counter + row * 4 + 1, mask=inside, other=0).to(tl.uint32)
    c2 = tl.load(counter + row * 4 + 2, mask=inside, other=0).to(tl.uint32)
    c3 = tl.load(counter + row * 4 + 3, mask=inside, other=0).to(tl.uint32)
    k0 = tl.load(key + row * 2, mask=inside, other=0).to(tl.uint32)
    k1 = tl.load(key + row * 2 + 1, mask=inside, other=0).to(tl.uint32)
    w0, w1, w2, w3 = philox_rounds(c0, c1, c2, c3, k0, k1)
    tl.store(out + row * 4, w0.to(tl.int64), mask=inside)
    tl.store(out + row * 4 + 1, w1.to(tl.int64), mask=inside)
    tl.store(out + row * 4 + 2, w2.to(tl.int64), mask=inside)
    tl.store(out + row * 4 + 3, w3.to(tl.int64), mask=inside)


@triton.jit(do_not_specialize=["first_quad", "shift"])
def standard_normal_kernel(
    out, sample_ids, key, numel, first_quad, shift, chunks, STREAM: tl.constexpr, QUADS: tl.constexpr
):
    """out[b, e] = normal of element 4 * first_quad + shift + e of sample ``sample_ids[b]``; 0 <= shift < 4."""
    sample = (tl.program_id(0) // chunks).to(tl.int64)
    start = (tl.program_id(0) % chunks).to(tl.int64) * QUADS
    sample_id = tl.load(sample_ids + sample)
    values = normals(start + first_quad, sample_id, tl.load(key), tl.load(key + 1), STREAM, QUADS, False)
    element = start * 4 + tl.arange(0, QUADS * 4) - shift
    tl.store(out + sample * numel + element, values, mask=(element >= 0) & (element < numel))


@triton.jit
def draw_timesteps_kernel(
    out, thresholds, sample_ids, key, positions, batch, count, total,
    STRATIFIED: tl.constexpr, SEARCH_STEPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One timestep per sample."""
    sample = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = sample < batch
    sample_id = tl.load(sample_ids + sample, mask=inside, other=0)
    position = sample_id
    if STRATIFIED:
        position = tl.load(positions + sample, mask=inside, other=0)
    timestep = drawn(sample_id, key, thresholds, count, position, total, STRATIFIED, SEARCH_STEPS)
    tl.store(out + sample, timestep, mask=inside)
