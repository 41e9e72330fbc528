"""Noise by a Triton kernel, from tensors or a uint8 data set. Signature: ``memfast.ops.contract``."""

import torch
import triton
import triton.language as tl

from memfast.ops.checks import check_draw_values, check_values
from memfast.ops.operands import Draw, Operands
from memfast.ops.triton.device import clean_values, coefficient, drawn, mixture, rounded
from memfast.ops.triton.launch import on, options, tiles


def noise(operands: Operands, draw: Draw | None, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_in ``[B, D]`` in ``dtype``, timesteps int64 ``[B]``) in one launch."""
    x0, table, timesteps, sample_ids, key, fixed_ids, indices, flip_width = operands
    if key.device.type == "cpu":
        check_values(operands)
        if draw is not None:
            check_draw_values(draw, sample_ids, key)
    out = torch.empty(operands.shape, dtype=dtype, device=x0.device)
    if timesteps is None:
        timesteps = torch.empty_like(sample_ids)
    if not out.numel():
        return out, timesteps
    batch, numel = out.shape
    quads, chunks = tiles("x0", batch, numel)
    # A kernel takes a pointer where it reads nothing, too.
    thresholds, positions, total = (None, None, 1) if draw is None else draw
    count = 0 if thresholds is None else len(thresholds)
    with on(out):
        noise_kernel[(batch * chunks,)](
            out, x0, table, timesteps, sample_ids, key, _or(fixed_ids, sample_ids), _or(indices, sample_ids),
            _or(thresholds, sample_ids), _or(positions, sample_ids), numel, chunks, len(x0), len(table), count,
            total or 1, fixed_ids is not None, indices is not None, flip_width, draw is not None,
            positions is not None, count.bit_length(), quads, out.element_size() == 2, **options(quads),
        )  # fmt: skip
    return out, timesteps


def _or(tensor: torch.Tensor | None, other: torch.Tensor) -> torch.Tensor:
    return other if tensor is None else tensor


@triton.jit
def noise_kernel(
    out, x0, table, timesteps, sample_ids, key, fixed_ids, indices, thresholds, positions,
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
