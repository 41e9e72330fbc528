"""What the Triton kernels share, as device functions with the bits of ``memfast.ops.reference``.

Philox4x32-10, the normals, timestep draws; a sample's clean values, its coefficients and both of its noises.

Launch every kernel that calls these with ``enable_fp_fusion=False``: a fused multiply-add would change the last bit.
"""

import triton
import triton.language as tl

from memfast.ops.addresses import STREAMS
from memfast.ops.reference.random import (
    COS_COEFFICIENTS,
    LOG_COEFFICIENTS,
    MINUS_TWO_LN_2,
    MULTIPLIER_0,
    MULTIPLIER_1,
    RADIANS_PER_WORD,
    ROUNDS,
    SIN_COEFFICIENTS,
    SQRT_HALF_BITS,
    WEYL_0,
    WEYL_1,
)

# A kernel reads a module's constants only as tl.constexpr; the values are the reference's own.
_ROUNDS = tl.constexpr(ROUNDS)
_MULTIPLIER_0, _MULTIPLIER_1 = tl.constexpr(MULTIPLIER_0), tl.constexpr(MULTIPLIER_1)
_WEYL_0, _WEYL_1 = tl.constexpr(WEYL_0), tl.constexpr(WEYL_1)
_LOG, _SIN, _COS = tl.constexpr(LOG_COEFFICIENTS), tl.constexpr(SIN_COEFFICIENTS), tl.constexpr(COS_COEFFICIENTS)
_MINUS_TWO_LN_2, _RADIANS_PER_WORD = tl.constexpr(MINUS_TWO_LN_2), tl.constexpr(RADIANS_PER_WORD)
_INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret if hasattr(triton, "knobs") else False)
_SQRT_HALF_BITS = tl.constexpr(SQRT_HALF_BITS)
COLUMNS = tl.constexpr(7)
NOISE, TIMESTEP = tl.constexpr(STREAMS["noise"]), tl.constexpr(STREAMS["timestep"])
FIXED, AUGMENTATION = tl.constexpr(STREAMS["fixed"]), tl.constexpr(STREAMS["augmentation"])
_ONE_OVER_255 = tl.constexpr(0.003921568859368563)


@triton.jit
def philox(c0, c1, c2, c3, k0, k1):
    """Four random words of the counter (c0, c1, c2, c3) under the key (k0, k1); all uint32, of one shape."""
    m0 = tl.full(c0.shape, _MULTIPLIER_0, tl.uint32)
    m1 = tl.full(c0.shape, _MULTIPLIER_1, tl.uint32)
    for _ in tl.static_range(_ROUNDS):
        high_0 = tl.umulhi(c0, m0)
        high_1 = tl.umulhi(c2, m1)
        low_0 = c0 * m0
        low_1 = c2 * m1
        c0 = high_1 ^ c1 ^ k0
        c1 = low_1
        c2 = high_0 ^ c3 ^ k1
        c3 = low_0
        k0 = k0 + tl.full(k0.shape, _WEYL_0, tl.uint32)
        k1 = k1 + tl.full(k1.shape, _WEYL_1, tl.uint32)
    return c0, c1, c2, c3


@triton.jit
def words_of(quads, sample_id, seed, step, STREAM: tl.constexpr):
    """The four words of each group of four elements ``quads`` (uint32) of one sample in one stream.

    ``sample_id``, ``seed`` and ``step`` are int64, scalars or of the shape of ``quads``.
    """
    zero = tl.zeros(quads.shape, tl.uint32)
    tag = (STREAM << 24) | ((sample_id >> 32) & 0xFFFFFF)
    return philox(
        quads,
        zero + sample_id.to(tl.uint32),
        zero + step.to(tl.uint32),
        zero + tag.to(tl.uint32),
        zero + seed.to(tl.uint32),
        zero + (seed >> 32).to(tl.uint32),
    )


@triton.jit
def box_muller(radius_word, angle_word):
    """Two independent standard normals from two words, line by line as ``reference.random.box_muller``."""
    radius = _radius(radius_word)
    cosine, sine = _turn(angle_word)
    return radius * cosine, radius * sine


@triton.jit
def normals(start, sample_id, seed, step, STREAM: tl.constexpr, QUADS: tl.constexpr, WIDE: tl.constexpr):
    """Standard normals float32 ``[4 * QUADS]`` of elements 4 * start, 4 * start + 1, ... of one sample.

    A thread computes four consecutive elements, or eight with WIDE: 16 bytes of float32 or of a 16-bit type, so that
    the values already lie where the vector loads and stores want them.
    """
    if WIDE:
        even = (start + 2 * tl.arange(0, QUADS // 2)).to(tl.uint32)
        first = _four(even, sample_id, seed, step, STREAM)
        second = _four(even + 1, sample_id, seed, step, STREAM)
        return tl.reshape(tl.permute(tl.join(first, second), (0, 3, 1, 2)), [QUADS * 4])
    return tl.reshape(_four((start + tl.arange(0, QUADS)).to(tl.uint32), sample_id, seed, step, STREAM), [QUADS * 4])


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


@triton.jit
def _four(quads, sample_id, seed, step, STREAM: tl.constexpr):
    w0, w1, w2, w3 = words_of(quads, sample_id, seed, step, STREAM)
    n0, n1 = box_muller(w0, w1)
    n2, n3 = box_muller(w2, w3)
    return tl.join(tl.join(n0, n2), tl.join(n1, n3))


@triton.jit
def rounded(value, dtype: tl.constexpr):
    """float32 ``value`` in ``dtype``, rounded to nearest even."""
    if _INTERPRETED and dtype == tl.bfloat16:
        # The interpreter truncates to bfloat16; the hardware's conversion rounds.
        bits = value.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return tl.where(value == value, bits, 0x7FC0).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    return value.to(dtype)


@triton.jit
def _radius(word):
    u = word.to(tl.float32) + 0.5
    bits = u.to(tl.int32, bitcast=True)
    exponent = (bits - _SQRT_HALF_BITS) >> 23
    f = (bits - (exponent << 23)).to(tl.float32, bitcast=True) - 1.0
    square = f * f
    p = tl.full(f.shape, _LOG[6], tl.float32)
    p = p * f + _LOG[5]
    p = p * f + _LOG[4]
    p = p * f + _LOG[3]
    p = p * f + _LOG[2]
    p = p * f + _LOG[1]
    p = p * f + _LOG[0]
    s = (p * f) * square
    s = s + square
    s = s - (f + f)
    s = s + (exponent - 32).to(tl.float32) * _MINUS_TWO_LN_2
    return tl.sqrt_rn(s)


@triton.jit
def _turn(word):
    quarter = (word + 0x20000000) >> 30
    rest = (word - (quarter << 30)).to(tl.int32, bitcast=True)
    a = rest.to(tl.float32) * _RADIANS_PER_WORD
    square = a * a
    p = tl.full(a.shape, _SIN[2], tl.float32)
    p = p * square + _SIN[1]
    p = p * square + _SIN[0]
    sine = (p * square) * a + a
    p = tl.full(a.shape, _COS[2], tl.float32)
    p = p * square + _COS[1]
    p = p * square + _COS[0]
    cosine = (p * square + -0.5) * square + 1.0
    odd = (quarter & 1) == 1
    turned_cosine = tl.where(odd, sine, cosine)
    turned_sine = tl.where(odd, cosine, sine)
    turned_cosine = tl.where(((quarter + 1) & 2) == 2, -turned_cosine, turned_cosine)
    turned_sine = tl.where((quarter & 2) == 2, -turned_sine, turned_sine)
    return turned_cosine, turned_sine
