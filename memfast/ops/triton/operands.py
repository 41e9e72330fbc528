"""What the noise and the loss kernels share: clean values, coefficients and both noises of a stretch of elements."""

import triton
import triton.language as tl

from memfast.ops.addresses import STREAMS
from memfast.ops.triton.device import normals, words_of

COLUMNS = tl.constexpr(7)
NOISE, TIMESTEP = tl.constexpr(STREAMS["noise"]), tl.constexpr(STREAMS["timestep"])
FIXED, AUGMENTATION = tl.constexpr(STREAMS["fixed"]), tl.constexpr(STREAMS["augmentation"])
_ONE_OVER_255 = tl.constexpr(0.003921568859368563)


@triton.jit
def clean_values(
    x0, indices, sample, sample_id, key, elements, numel, rows, inside, WIDTH: tl.constexpr, GATHER: tl.constexpr
):
    """float32 clean data of one sample: its row of ``x0``, or row ``indices[sample]`` of a uint8 data set.

    Bytes become (2 * byte - 255) / 255. With WIDTH > 0, every WIDTH elements are reversed where word w0 of the
    sample's augmentation stream is odd. A row that is out of range gives NaN.
    """
    if GATHER:
        row = tl.load(indices + sample)
        known = (row >= 0) & (row < rows)
        if WIDTH > 0:
            first = (sample_id & 0).to(tl.uint32)
            word, _, _, _ = words_of(first, sample_id, tl.load(key), tl.load(key + 1), AUGMENTATION)
            flipped = (word & 1) == 1
            column = elements % WIDTH
            elements = tl.where(flipped, elements - column + (WIDTH - 1 - column), elements)
        readable = elements < tl.where(known, numel, 0)
        byte = tl.load(x0 + row * numel + elements, mask=readable, other=0).to(tl.float32)
        return tl.where(known, (byte * 2.0 - 255.0) * _ONE_OVER_255, float("nan"))
    return tl.load(x0 + sample * numel + elements, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def coefficient(table, timestep, length, COLUMN: tl.constexpr):
    """One entry of a row of the table; NaN where there is no such row."""
    known = (timestep >= 0) & (timestep < length)
    return tl.load(table + timestep * COLUMNS + COLUMN, mask=known, other=float("nan"))


@triton.jit
def mixture(
    x, start, sample, sample_id, fixed_ids, key, c_x, c_f, c_n,
    HAS_FIXED: tl.constexpr, QUADS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """(c_x * x + c_f * fixed) + c_n * noise, each step rounded to float32."""
    seed = tl.load(key)
    value = x * c_x
    if HAS_FIXED:
        value = value + normals(start, tl.load(fixed_ids + sample), seed, seed & 0, FIXED, QUADS, WIDE) * c_f
    return value + normals(start, sample_id, seed, tl.load(key + 1), NOISE, QUADS, WIDE) * c_n


@triton.jit
def drawn(sample_id, key, thresholds, count, position, total, STRATIFIED: tl.constexpr, SEARCH_STEPS: tl.constexpr):
    """Timesteps int64 of sample ids (a scalar or a block): how many thresholds each one's 64-bit word has reached."""
    zero = sample_id & 0
    w0, w1, _, _ = words_of(zero.to(tl.uint32), sample_id, tl.load(key), tl.load(key + 1), TIMESTEP)
    high, low = w1.to(tl.int64), w0.to(tl.int64)
    if STRATIFIED:
        # floor((position * 2**64 + word64) / total), 32 bits at a time; position < total <= 2**31 keeps it in range.
        value = (position << 32) | high
        high = value // total
        low = (((value - high * total) << 32) | low) // total
    signed = ((high ^ 0x80000000) << 32) | low
    reached = zero
    for i in tl.static_range(SEARCH_STEPS):
        candidate = reached + (1 << (SEARCH_STEPS - 1 - i))
        allowed = candidate <= count
        threshold = tl.load(thresholds + candidate - 1, mask=allowed, other=0)
        reached = tl.where(allowed & (threshold <= signed), candidate, reached)
    return reached
