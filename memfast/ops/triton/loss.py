"""The loss by Triton kernels: residuals, gradient and partial sums in one pass, then the sums in a fixed order."""

import struct

import torch
import triton
import triton.language as tl

from memfast.ops.checks import check_values
from memfast.ops.operands import Operands
from memfast.ops.triton.device import clean_values, coefficient, mixture, rounded
from memfast.ops.triton.launch import EXACT, on, options, tiles

SUM_BLOCK = 1024


def loss(
    prediction: torch.Tensor, operands: Operands, mean: bool, gradient_scale: float | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(loss float32 ``[B]`` or scalar, gradient or None)."""
    x0, table, timesteps, sample_ids, key, fixed_ids, indices, flip_width = operands
    if key.device.type == "cpu":
        check_values(operands)
    batch, numel = prediction.shape
    value = torch.zeros((1 if mean else batch,), dtype=torch.float32, device=prediction.device)
    gradient = None if gradient_scale is None else torch.empty_like(prediction)
    if prediction.numel():
        quads, chunks = tiles("prediction", batch, numel)
        partial = torch.empty(batch * chunks, dtype=torch.float32, device=prediction.device)
        with on(prediction):
            # A kernel takes a pointer where it reads or writes nothing, too.
            loss_kernel[(batch * chunks,)](
                partial, prediction if gradient is None else gradient, prediction, x0, table, timesteps, sample_ids,
                key, sample_ids if fixed_ids is None else fixed_ids, sample_ids if indices is None else indices, numel,
                chunks, len(x0), len(table), _bits(gradient_scale or 1.0), fixed_ids is not None, indices is not None,
                flip_width, gradient is not None, quads, prediction.element_size() == 2, **options(quads),
            )  # fmt: skip
            count, divisor = (batch * chunks, batch * numel) if mean else (chunks, numel)
            block = min(SUM_BLOCK, triton.next_power_of_2(count))
            finish_kernel[(len(value),)](value, partial, count, divisor, block, **EXACT)
    return (value.reshape(()) if mean else value), gradient


def _bits(value: float) -> int:
    return struct.unpack("<q", struct.pack("<d", value))[0]


@triton.jit(do_not_specialize=["scale_bits"])
def loss_kernel(
    partial, gradient, prediction, x0, table, timesteps, sample_ids, key, fixed_ids, indices,
    numel, chunks, rows, length, scale_bits,
    HAS_FIXED: tl.constexpr, GATHER: tl.constexpr, WIDTH: tl.constexpr, GRADIENT: tl.constexpr, QUADS: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """partial[b, chunk] = sum of residual**2 over the chunk; gradient = float32(k_p * scale) * residual.

    ``scale_bits`` are the bits of a float64: a Python float would arrive rounded to float32.
    """
    sample = (tl.program_id(0) // chunks).to(tl.int64)
    start = (tl.program_id(0) % chunks).to(tl.int64) * QUADS
    elements = start * 4 + tl.arange(0, QUADS * 4)
    inside = elements < numel
    timestep = tl.load(timesteps + sample)
    sample_id = tl.load(sample_ids + sample)
    x = clean_values(x0, indices, sample, sample_id, key, elements, numel, rows, inside, WIDTH, GATHER)
    target = mixture(
        x, start, sample, sample_id, fixed_ids, key,
        coefficient(table, timestep, length, 4),
        coefficient(table, timestep, length, 5),
        coefficient(table, timestep, length, 6),
        HAS_FIXED, QUADS, WIDE,
    )  # fmt: skip
    k_p = coefficient(table, timestep, length, 3)
    predicted = tl.load(prediction + sample * numel + elements, mask=inside, other=0.0).to(tl.float32)
    residual = predicted * k_p - target
    if GRADIENT:
        factor = (k_p.to(tl.float64) * scale_bits.to(tl.int64).to(tl.float64, bitcast=True)).to(tl.float32)
        value = rounded(residual * factor, gradient.dtype.element_ty)
        tl.store(gradient + sample * numel + elements, value, mask=inside)
    square = tl.where(inside, residual * residual, 0.0)
    tl.store(partial + tl.program_id(0), tl.sum(square, 0))


@triton.jit(do_not_specialize=["divisor"])
def finish_kernel(out, partial, count, divisor, BLOCK: tl.constexpr):
    """out[i] = sum(partial[i, :count]) / divisor, in float64 and in one fixed order."""
    row = tl.program_id(0).to(tl.int64)
    total = tl.zeros([BLOCK], tl.float64)
    column = tl.arange(0, BLOCK)
    while tl.min(column, 0) < count:
        total += tl.load(partial + row * count + column, mask=column < count, other=0.0).to(tl.float64)
        column += BLOCK
    tl.store(out + row, (tl.sum(total, 0) / divisor.to(tl.float64)).to(tl.float32))
