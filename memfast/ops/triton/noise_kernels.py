"""Triton kernels of words, normals, timestep draws and noise; a program serves one stretch of one sample."""

import triton
import triton.language as tl

from memfast.ops.triton.device import normals, philox, rounded
from memfast.ops.triton.operands import clean_values, coefficient, drawn, mixture


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
    w0, w1, w2, w3 = philox(c0, c1, c2, c3, k0, k1)
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


@triton.jit
def noise_kernel(
    out, x0, indices, table, timesteps, sample_ids, fixed_ids, key, thresholds, positions,
    numel, chunks, rows, length, count, total,
    HAS_FIXED: tl.constexpr, GATHER: tl.constexpr, WIDTH: tl.constexpr, DRAW: tl.constexpr,
    STRATIFIED: tl.constexpr, SEARCH_STEPS: tl.constexpr, QUADS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """out = a_x * x0 + a_f * fixed + a_n * noise, rounded once; with DRAW it also draws and stores the timesteps."""
    sample = (tl.program_id(0) // chunks).to(tl.int64)
    chunk = tl.program_id(0) % chunks
    start = chunk.to(tl.int64) * QUADS
    elements = start * 4 + tl.arange(0, QUADS * 4)
    inside = elements < numel
    sample_id = tl.load(sample_ids + sample)
    if DRAW:
        position = sample_id
        if STRATIFIED:
            position = tl.load(positions + sample)
        timestep = drawn(sample_id, key, thresholds, count, position, total, STRATIFIED, SEARCH_STEPS)
        if chunk == 0:
            tl.store(timesteps + sample, timestep)
    else:
        timestep = tl.load(timesteps + sample)
    x = clean_values(x0, indices, sample, sample_id, key, elements, numel, rows, inside, WIDTH, GATHER)
    value = mixture(
        x, start, sample, sample_id, fixed_ids, key,
        coefficient(table, timestep, length, 0),
        coefficient(table, timestep, length, 1),
        coefficient(table, timestep, length, 2),
        HAS_FIXED, QUADS, WIDE,
    )  # fmt: skip
    tl.store(out + sample * numel + elements, rounded(value, out.dtype.element_ty), mask=inside)
