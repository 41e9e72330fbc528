"""The normals of memfast, defined: Box-Muller on 32-bit words in float32, with IEEE add, multiply and sqrt only.

Every line is one rounded float32 operation and none is fused, so every backend repeats the same bits. The polynomials
are minimax fits made for this file. Error: within 4 ulp of the float64 Box-Muller of the same float32 uniforms (3.6
seen over 32 million words, the corners of both uniforms included); largest normal sqrt(66 ln 2) = 6.76.
"""

import torch

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


def box_muller(radius_word: torch.Tensor, angle_word: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two independent standard normals, float32, from two 32-bit words held in int64 tensors of one shape."""
    radius = _radius(radius_word)
    cosine, sine = _turn(angle_word)
    return radius * cosine, radius * sine


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
