"""Random numbers by address, defined: Philox words, standard normals and timestep draws.

Philox4x32-10 is that of Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". The normals are Box-
Muller on 32-bit words in float32, with IEEE add, multiply and sqrt only: every line is one rounded float32
operation and none is fused, so every backend repeats the same bits. No number on the way is subnormal, so flush-to-
zero changes none. The polynomials are minimax fits made for this file. Error: within 4 ulp of the float64 Box-
Muller of the same float32 uniforms (3.6 seen over 32 million words, the corners of both uniforms included); largest
normal sqrt(66 ln 2) = 6.76.
"""

import torch

from memfast.ops.addresses import STREAMS, WORD
from memfast.ops.checks import check_addresses, check_draw_values
from memfast.ops.operands import Draw

ROUNDS = 10
MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85
# -2 ln(1+f) = -2f + f^2 + f^3 * P(f) on [sqrt(1/2) - 1, sqrt(2) - 1]; relative error 2**-25.
LOG_COEFFICIENTS = (
    -0.6666781902313232, 0.5000267624855042, -0.3992612659931183, 0.3315517008304596, -0.29829534888267517,
    0.2853497266769409, -0.17400872707366943,
)  # fmt: skip
# sin(a) = a + a^3 * S(a^2) and cos(a) = 1 - a^2/2 + a^4 * C(a^2) on [-pi/4, pi/4].
SIN_COEFFICIENTS = (-0.16666655242443085, 0.00833216030150652, -0.00019515218446031213)
COS_COEFFICIENTS = (0.04166664555668831, -0.0013887315290048718, 2.4433082217001356e-05)
MINUS_TWO_LN_2 = -1.3862943649291992
RADIANS_PER_WORD = 1.462918119976564e-09  # 2 pi / 2**32
SQRT_HALF_BITS = 0x3F3504F3
# Digits of the long division; with 2**16 the remainder times a digit stays inside an int64 for 2**31 strata.
DIGIT_BITS = 16


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


def standard_normal(sample_ids: torch.Tensor, numel: int, key: torch.Tensor, stream: int, offset: int) -> torch.Tensor:
    """float32 ``[B, numel]``: elements ``offset`` to ``offset + numel`` of each sample."""
    if sample_ids.device.type == "cpu":
        check_addresses(key, sample_ids=sample_ids)
    return normals(sample_ids, numel, key, stream, offset)


def draw_timesteps(draw: Draw, sample_ids: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """int64 ``[B]``: the number of thresholds that a 64-bit word has reached."""
    if sample_ids.device.type == "cpu":
        check_draw_values(draw, sample_ids, key)
    w0, w1, _, _ = words(sample_ids, sample_ids.new_zeros(1), key, STREAMS["timestep"])[:, 0].unbind(-1)
    if draw.positions is not None:
        w0, w1 = _stratified(w0, w1, draw.positions, draw.total or 1)
    # Bit 63 flipped is 2**63 subtracted, as signed integers.
    signed = (w0 | (w1 << 32)) ^ torch.iinfo(torch.int64).min
    return torch.searchsorted(draw.thresholds, signed, right=True)


def normals(sample_ids: torch.Tensor, numel: int, key: torch.Tensor, stream: int, offset: int = 0) -> torch.Tensor:
    """float32 ``[B, numel]``, without checks."""
    first, last = offset // 4, (offset + numel + 3) // 4
    w0, w1, w2, w3 = words(sample_ids, torch.arange(first, last, device=sample_ids.device), key, stream).unbind(-1)
    quads = torch.stack((*box_muller(w0, w1), *box_muller(w2, w3)), -1).flatten(1)
    return quads[:, offset - 4 * first :][:, :numel].contiguous()


def words(sample_ids: torch.Tensor, blocks: torch.Tensor, key: torch.Tensor, stream: int) -> torch.Tensor:
    """Words int64 ``[B, n, 4]`` of counter blocks int64 ``[n]`` (element // 4) of each sample."""
    ids = sample_ids[:, None]
    counter = (blocks[None], ids & WORD, key[1], (stream << 24) | ((ids >> 32) & 0xFFFFFF))
    return philox(
        torch.stack(torch.broadcast_tensors(*counter), -1), torch.stack((key[0] & WORD, (key[0] >> 32) & WORD))
    )


def box_muller(radius_word: torch.Tensor, angle_word: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two independent standard normals, float32, from two 32-bit words held in int64 tensors of one shape."""
    radius = _radius(radius_word)
    cosine, sine = _turn(angle_word)
    return radius * cosine, radius * sine


def _multiply(word: torch.Tensor, multiplier: int) -> tuple[torch.Tensor, torch.Tensor]:
    # The 64-bit product may wrap into the sign bit; the mask takes the right 32 bits all the same.
    product = word * multiplier
    return (product >> 32) & WORD, product & WORD


def _radius(word: torch.Tensor) -> torch.Tensor:
    """sqrt(-2 ln u) of u = (float32(word) + 1/2) / 2**32, from 2**-33 to 1."""
    u = word.to(torch.float32) + 0.5
    bits = u.view(torch.int32)
    exponent = (bits - SQRT_HALF_BITS) >> 23
    f = (bits - (exponent << 23)).view(torch.float32) - 1.0
    square = f * f
    s = (_polynomial(LOG_COEFFICIENTS, f) * f) * square
    s = s + square
    s = s - (f + f)
    s = s + (exponent - 32).to(torch.float32) * MINUS_TWO_LN_2
    # float32 torch.sqrt on a CPU may be 1 ulp off (its vector library); through float64 it is the IEEE sqrt.
    return torch.sqrt(s.double()).float()


def _turn(word: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of word / 2**32 turns: the nearest quarter turn, and a rest of at most an eighth."""
    quarter = ((word + 0x20000000) & 0xFFFFFFFF) >> 30
    rest = word - (quarter << 30)
    rest = torch.where(rest >= 2**31, rest - 2**32, rest)
    a = rest.to(torch.float32) * RADIANS_PER_WORD
    square = a * a
    sine = (_polynomial(SIN_COEFFICIENTS, square) * square) * a + a
    cosine = (_polynomial(COS_COEFFICIENTS, square) * square + -0.5) * square + 1.0
    odd = (quarter & 1) == 1
    cosine, sine = torch.where(odd, sine, cosine), torch.where(odd, cosine, sine)
    cosine = torch.where(((quarter + 1) & 2) == 2, -cosine, cosine)
    return cosine, torch.where((quarter & 2) == 2, -sine, sine)


def _polynomial(coefficients: tuple[float, ...], x: torch.Tensor) -> torch.Tensor:
    value = torch.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value


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
