// bfloat16 and float16 as stored, and their conversions by integer arithmetic (round to nearest even).
// Everything is static: each translation unit keeps its own copy, compiled for its own instruction set.
#pragma once
#include <cstdint>
#include <cstring>

namespace memfast {

struct Bf16 { uint16_t bits; };
struct Half { uint16_t bits; };

static inline uint32_t bits_of(float x) { uint32_t b; std::memcpy(&b, &x, 4); return b; }
static inline float float_of(uint32_t b) { float x; std::memcpy(&x, &b, 4); return x; }

static inline float to_float(float x) { return x; }
static inline float to_float(Bf16 x) { return float_of(uint32_t(x.bits) << 16); }

static inline float to_float(Half x) {
    const uint32_t sign = uint32_t(x.bits & 0x8000) << 16, rest = x.bits & 0x7FFF;
    if (rest >= 0x7C00) return float_of(sign | 0x7F800000 | (rest & 0x3FF) << 13);
    // Below the smallest normal the number is a multiple of 2**-24, which float32 holds exactly.
    const uint32_t magnitude = rest < 0x400 ? bits_of(float(rest) * 5.9604644775390625e-8f) : (rest << 13) + (112u << 23);
    return float_of(sign | magnitude);
}

static inline Bf16 to_bf16(float x) {
    if (x != x) return {0x7FC0};
    const uint32_t b = bits_of(x);
    return {uint16_t((b + 0x7FFF + (b >> 16 & 1)) >> 16)};
}

static inline Half to_half(float x) {
    const uint32_t b = bits_of(x), sign = b >> 16 & 0x8000, rest = b & 0x7FFFFFFF;
    if (rest > 0x7F800000) return {uint16_t(sign | 0x7E00)};
    if (rest >= 0x477FF000) return {uint16_t(sign | 0x7C00)};  // from 65520 on: infinity
    // Adding 1/2, whose last bit is 2**-24, rounds to a multiple of the smallest float16.
    if (rest < 0x38800000) return {uint16_t(sign | (bits_of(float_of(rest) + 0.5f) - 0x3F000000))};
    return {uint16_t(sign | (rest - (112u << 23) + 0xFFF + (rest >> 13 & 1)) >> 13)};
}

}  // namespace memfast
