// Four lanes for any processor, in the vector extensions of GCC and Clang: SSE2 on x86-64, NEON on Arm. Only the
// multiplication and the square root need a name of their own there. This is the interface that the other vector_*.h share.
#pragma once
#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/half.h"

namespace memfast {
namespace {

struct Portable {
    static constexpr int W = 4;  // floats per vector
    typedef float F __attribute__((vector_size(16)));
    typedef int32_t I __attribute__((vector_size(16)));
    typedef uint64_t U __attribute__((vector_size(16)));  // one 32-bit word per lane; high halves are never read
    typedef uint32_t Unsigned __attribute__((vector_size(16)));

    static U set64(uint64_t x) { return U{x, x}; }
    // Lane j holds the counter whose four elements interleave() puts at place j.
    static U lane_counters() { return U{0, 1}; }
    static U load64(const uint64_t* p) { return U{p[0], p[1]}; }
    static U add64(U a, U b) { return a + b; }
    // Full products of the low halves.
    static U mul32(U a, uint32_t m) {
#if defined(__SSE2__)
        return U(_mm_mul_epu32(__m128i(a), __m128i(set64(m))));
#elif defined(__ARM_NEON) && defined(__aarch64__)
        return U(vmull_u32(vmovn_u64(uint64x2_t(a)), vdup_n_u32(m)));
#else
        return (a & 0xFFFFFFFFu) * uint64_t(m);
#endif
    }
    static U high32(U a) { return a >> 32; }
    static U xor3(U a, U b, U c) { return a ^ b ^ c; }
    // Words of a in the even lanes, of b in the odd ones.
    static I pack(U a, U b) { return I((a & 0xFFFFFFFFu) | b << 32); }

    static F set(float x) { return F{x, x, x, x}; }
    static F add(F a, F b) { return a + b; }
    static F sub(F a, F b) { return a - b; }
    static F mul(F a, F b) { return a * b; }
    static F sqrt(F a) {
#if defined(__SSE2__)
        return F(_mm_sqrt_ps(__m128(a)));
#elif defined(__ARM_NEON) && defined(__aarch64__)
        return F(vsqrtq_f32(float32x4_t(a)));
#else
        return F{std::sqrt(a[0]), std::sqrt(a[1]), std::sqrt(a[2]), std::sqrt(a[3])};
#endif
    }
    static F from_signed(I a) { return __builtin_convertvector(a, F); }
    // Both halves are exact, so the sum is the only rounding.
    static F from_unsigned(I a) { return from_signed(I(Unsigned(a) >> 16)) * 65536.0f + from_signed(a & 0xFFFF); }
    static F as_float(I a) { return F(a); }
    static I as_int(F a) { return I(a); }
    static I set_int(uint32_t x) { const auto i = int32_t(x); return I{i, i, i, i}; }
    static I add_int(I a, I b) { return I(Unsigned(a) + Unsigned(b)); }
    static I sub_int(I a, I b) { return I(Unsigned(a) - Unsigned(b)); }
    static I and_int(I a, I b) { return a & b; }
    template <int n> static I left(I a) { return I(Unsigned(a) << n); }
    template <int n> static I right_signed(I a) { return a >> n; }
    // b where bit 30 of `bits` is set, otherwise a.
    static F select_by_bit30(I bits, F a, F b) {
        const I mask = left<1>(bits) >> 31;
        return F((I(a) & ~mask) | (I(b) & mask));
    }
    // a with its sign flipped where bit 31 of `bits` is set.
    static F flip_by_bit31(F a, I bits) { return F(I(a) ^ (bits & set_int(0x80000000u))); }
    // Cosines and sines of the packed words, to elements in order.
    static void interleave(F cosine, F sine, F& first, F& second) {
        first = F{cosine[0], sine[0], cosine[1], sine[1]};
        second = F{cosine[2], sine[2], cosine[3], sine[3]};
    }

    static F load(const float* p) { F r; std::memcpy(&r, p, sizeof r); return r; }
    static F load(const Bf16* p) { return F{to_float(p[0]), to_float(p[1]), to_float(p[2]), to_float(p[3])}; }
    static F load(const Half* p) { return F{to_float(p[0]), to_float(p[1]), to_float(p[2]), to_float(p[3])}; }
    static F load(const uint8_t* p) { return F{float(p[0]), float(p[1]), float(p[2]), float(p[3])}; }
    static void store(float* p, F a) { std::memcpy(p, &a, sizeof a); }
    static void store(Bf16* p, F a) { for (int i = 0; i < 4; ++i) p[i] = to_bf16(a[i]); }
    static void store(Half* p, F a) { for (int i = 0; i < 4; ++i) p[i] = to_half(a[i]); }
};

}  // namespace
}  // namespace memfast
