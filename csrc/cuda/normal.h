// Philox4x32-10 and the normals: the same bits as memfast/ops/reference/random.py.
// Host and device: a test compiles this file for the host and compares its bits with the reference.
// Every float operation is rounded by itself: built with -fmad=false (device) or -ffp-contract=off (host).
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "operands.h"

#ifdef __CUDACC__
#define MEMFAST_BOTH __host__ __device__ __forceinline__
#else
#define MEMFAST_BOTH inline
#endif

namespace memfast {

struct Words {
    uint32_t w[4];
};

MEMFAST_BOTH uint32_t high_product(uint32_t a, uint32_t b) {
#ifdef __CUDA_ARCH__
    return __umulhi(a, b);
#else
    return static_cast<uint32_t>((static_cast<uint64_t>(a) * b) >> 32);
#endif
}

MEMFAST_BOTH Words philox(Words c, uint32_t k0, uint32_t k1) {
    constexpr uint32_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
    constexpr uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
    for (int round = 0; round < 10; ++round) {
        const uint32_t high0 = high_product(c.w[0], kMultiplier0), low0 = c.w[0] * kMultiplier0;
        const uint32_t high1 = high_product(c.w[2], kMultiplier1), low1 = c.w[2] * kMultiplier1;
        c = {{high1 ^ c.w[1] ^ k0, low1, high0 ^ c.w[3] ^ k1, low0}};
        k0 += kWeyl0;
        k1 += kWeyl1;
    }
    return c;
}

// The words of elements 4*quad .. 4*quad+3 of one sample.
MEMFAST_BOTH Words words_of(uint32_t quad, int64_t sample_id, int64_t seed, int64_t step, uint32_t stream) {
    const uint32_t id_high = static_cast<uint32_t>(sample_id >> 32) & 0xFFFFFFu;
    const Words counter = {{quad, static_cast<uint32_t>(sample_id), static_cast<uint32_t>(step), stream << 24 | id_high}};
    return philox(counter, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

MEMFAST_BOTH float float_of_bits(uint32_t bits) {
#ifdef __CUDA_ARCH__
    return __uint_as_float(bits);
#else
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
#endif
}

MEMFAST_BOTH uint32_t bits_of_float(float value) {
#ifdef __CUDA_ARCH__
    return __float_as_uint(value);
#else
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
#endif
}

MEMFAST_BOTH float square_root(float x) {
#ifdef __CUDA_ARCH__
    return __fsqrt_rn(x);
#else
    return std::sqrt(x);
#endif
}

// sqrt(-2 ln u) of u = (float32(word) + 1/2) / 2**32.
MEMFAST_BOTH float radius_of(uint32_t word) {
    const float u = static_cast<float>(word) + 0.5f;
    const int32_t bits = static_cast<int32_t>(bits_of_float(u));
    const int32_t exponent = (bits - 0x3F3504F3) >> 23;
    const float f = float_of_bits(static_cast<uint32_t>(bits - exponent * (1 << 23))) - 1.0f;
    const float square = f * f;
    float p = -0.17400872707366943f;
    p = p * f + 0.2853497266769409f;
    p = p * f + -0.29829534888267517f;
    p = p * f + 0.3315517008304596f;
    p = p * f + -0.3992612659931183f;
    p = p * f + 0.5000267624855042f;
    p = p * f + -0.6666781902313232f;
    float s = (p * f) * square;
    s = s + square;
    s = s - (f + f);
    s = s + static_cast<float>(exponent - 32) * -1.3862943649291992f;
    return square_root(s);
}

// Cosine and sine of word / 2**32 turns.
MEMFAST_BOTH void turn(uint32_t word, float& cosine, float& sine) {
    const uint32_t quarter = (word + 0x20000000u) >> 30;
    const float a = static_cast<float>(static_cast<int32_t>(word - (quarter << 30))) * 1.462918119976564e-09f;
    const float square = a * a;
    float p = -0.00019515218446031213f;
    p = p * square + 0.00833216030150652f;
    p = p * square + -0.16666655242443085f;
    const float s = (p * square) * a + a;
    p = 2.4433082217001356e-05f;
    p = p * square + -0.0013887315290048718f;
    p = p * square + 0.04166664555668831f;
    const float c = (p * square + -0.5f) * square + 1.0f;
    const bool odd = quarter & 1u;
    const uint32_t cosine_sign = ((quarter + 1u) & 2u) << 30, sine_sign = (quarter & 2u) << 30;
    cosine = float_of_bits(bits_of_float(odd ? s : c) ^ cosine_sign);
    sine = float_of_bits(bits_of_float(odd ? c : s) ^ sine_sign);
}

MEMFAST_BOTH void normals_of(const Words& words, float* out) {
    float cosine, sine;
    float radius = radius_of(words.w[0]);
    turn(words.w[1], cosine, sine);
    out[0] = radius * cosine;
    out[1] = radius * sine;
    radius = radius_of(words.w[2]);
    turn(words.w[3], cosine, sine);
    out[2] = radius * cosine;
    out[3] = radius * sine;
}

// The sample's 64-bit timestep word as a signed number; with total > 0 the word of the position's stratum.
MEMFAST_BOTH int64_t timestep_word(int64_t sample_id, int64_t seed, int64_t step, int64_t position, int64_t total) {
    const Words words = words_of(0, sample_id, seed, step, kTimestep);
    uint64_t high = words.w[1], low = words.w[0];
    if (total > 0) {
        // floor((position * 2**64 + word) / total), 32 bits at a time; position < total <= 2**31 keeps it in range.
        const uint64_t divisor = static_cast<uint64_t>(total);
        const uint64_t value = static_cast<uint64_t>(position) << 32 | high;
        high = value / divisor;
        low = ((value - high * divisor) << 32 | low) / divisor;
    }
    return static_cast<int64_t>((high << 32 | low) ^ (uint64_t{1} << 63));
}

// How many of the ascending thresholds are <= word.
MEMFAST_BOTH int64_t reached(const int64_t* thresholds, int64_t count, int64_t word) {
    int64_t low = 0, high = count;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (thresholds[middle] <= word) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

}  // namespace memfast
