// Sixteen lanes of AVX-512 (F, BW, DQ, VL). Same interface as vector_portable.h, where its members are explained.
#pragma once
#include <immintrin.h>

#include "cpu/half.h"

namespace memfast {
namespace {

struct Avx512 {
    static constexpr int W = 16;
    using F = __m512;
    using I = __m512i;
    using U = __m512i;

    static U set64(uint64_t x) { return _mm512_set1_epi64(int64_t(x)); }
    static U lane_counters() { return _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7); }
    static U load64(const uint64_t* p) { return _mm512_loadu_si512(p); }
    static U add64(U a, U b) { return _mm512_add_epi64(a, b); }
    static U mul32(U a, uint32_t m) { return _mm512_mul_epu32(a, _mm512_set1_epi64(int64_t(m))); }
    static U high32(U a) { return _mm512_srli_epi64(a, 32); }
    static U xor3(U a, U b, U c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
    static I pack(U a, U b) { return _mm512_mask_shuffle_epi32(a, 0xAAAA, b, _MM_PERM_CCAA); }

    static F set(float x) { return _mm512_set1_ps(x); }
    static F add(F a, F b) { return _mm512_add_ps(a, b); }
    static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
    static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
    static F sqrt(F a) { return _mm512_sqrt_ps(a); }
    static F from_unsigned(I a) { return _mm512_cvtepu32_ps(a); }
    static F from_signed(I a) { return _mm512_cvtepi32_ps(a); }
    static F as_float(I a) { return _mm512_castsi512_ps(a); }
    static I as_int(F a) { return _mm512_castps_si512(a); }
    static I set_int(uint32_t x) { return _mm512_set1_epi32(int32_t(x)); }
    static I add_int(I a, I b) { return _mm512_add_epi32(a, b); }
    static I sub_int(I a, I b) { return _mm512_sub_epi32(a, b); }
    static I and_int(I a, I b) { return _mm512_and_si512(a, b); }
    template <int n> static I left(I a) { return _mm512_slli_epi32(a, n); }
    template <int n> static I right_signed(I a) { return _mm512_srai_epi32(a, n); }
    static F select_by_bit30(I bits, F a, F b) {
        return _mm512_mask_mov_ps(a, _mm512_test_epi32_mask(bits, set_int(1u << 30)), b);
    }
    static F flip_by_bit31(F a, I bits) {  // a ^ (bits & sign)
        return as_float(_mm512_ternarylogic_epi32(as_int(a), bits, set_int(0x80000000u), 0x78));
    }
    // unpack works within 128 bits; lane_counters() is ordered so that no permutation is left to do.
    static void interleave(F cosine, F sine, F& first, F& second) {
        first = _mm512_unpacklo_ps(cosine, sine);
        second = _mm512_unpackhi_ps(cosine, sine);
    }

    static __m256i load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
    static F load(const float* p) { return _mm512_loadu_ps(p); }
    static F load(const Bf16* p) { return as_float(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load256(p)), 16)); }
    static F load(const Half* p) { return _mm512_cvtph_ps(load256(p)); }
    static F load(const uint8_t* p) {
        return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
    }
    static void store(float* p, F a) { _mm512_storeu_ps(p, a); }
    // Not vcvtneps2bf16: it flushes subnormal numbers to zero.
    static void store(Bf16* p, F a) {
        const I bits = as_int(a), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), set_int(1));
        const I rounded = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, set_int(0x7FFF)), odd), 16);
        const I words = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), set_int(0x7FC0));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(words));
    }
    static void store(Half* p, F a) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
};

}  // namespace
}  // namespace memfast
