// Eight lanes of AVX2. Same interface as vector_portable.h, where its members are explained.
#pragma once
#include <immintrin.h>

#include "cpu/half.h"

namespace memfast {
namespace {

struct Avx2 {
    static constexpr int W = 8;
    using F = __m256;
    using I = __m256i;
    using U = __m256i;

    static U set64(uint64_t x) { return _mm256_set1_epi64x(int64_t(x)); }
    static U lane_counters() { return _mm256_setr_epi64x(0, 2, 1, 3); }
    static U load64(const uint64_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
    static U add64(U a, U b) { return _mm256_add_epi64(a, b); }
    static U mul32(U a, uint32_t m) { return _mm256_mul_epu32(a, _mm256_set1_epi64x(int64_t(m))); }
    static U high32(U a) { return _mm256_srli_epi64(a, 32); }
    static U xor3(U a, U b, U c) { return _mm256_xor_si256(_mm256_xor_si256(a, b), c); }
    static I pack(U a, U b) { return _mm256_blend_epi32(a, _mm256_slli_epi64(b, 32), 0xAA); }

    static F set(float x) { return _mm256_set1_ps(x); }
    static F add(F a, F b) { return _mm256_add_ps(a, b); }
    static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
    static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
    static F sqrt(F a) { return _mm256_sqrt_ps(a); }
    // Both halves are exact, so the sum is the only rounding.
    static F from_unsigned(I a) {
        const F high = _mm256_cvtepi32_ps(_mm256_srli_epi32(a, 16));
        const F low = _mm256_cvtepi32_ps(_mm256_and_si256(a, _mm256_set1_epi32(0xFFFF)));
        return _mm256_add_ps(_mm256_mul_ps(high, _mm256_set1_ps(65536.0f)), low);
    }
    static F from_signed(I a) { return _mm256_cvtepi32_ps(a); }
    static F as_float(I a) { return _mm256_castsi256_ps(a); }
    static I as_int(F a) { return _mm256_castps_si256(a); }
    static I set_int(uint32_t x) { return _mm256_set1_epi32(int32_t(x)); }
    static I add_int(I a, I b) { return _mm256_add_epi32(a, b); }
    static I sub_int(I a, I b) { return _mm256_sub_epi32(a, b); }
    static I and_int(I a, I b) { return _mm256_and_si256(a, b); }
    template <int n> static I left(I a) { return _mm256_slli_epi32(a, n); }
    template <int n> static I right_signed(I a) { return _mm256_srai_epi32(a, n); }
    static F select_by_bit30(I bits, F a, F b) { return _mm256_blendv_ps(a, b, as_float(_mm256_slli_epi32(bits, 1))); }
    static F flip_by_bit31(F a, I bits) { return _mm256_xor_ps(a, _mm256_and_ps(as_float(bits), _mm256_set1_ps(-0.0f))); }
    static void interleave(F cosine, F sine, F& first, F& second) {
        first = _mm256_unpacklo_ps(cosine, sine);
        second = _mm256_unpackhi_ps(cosine, sine);
    }

    static __m128i load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
    static F load(const float* p) { return _mm256_loadu_ps(p); }
    static F load(const Bf16* p) { return as_float(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load128(p)), 16)); }
    static F load(const Half* p) { return _mm256_cvtph_ps(load128(p)); }
    static F load(const uint8_t* p) {
        return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
    }
    static void store(float* p, F a) { _mm256_storeu_ps(p, a); }
    static void store(Bf16* p, F a) {
        const I bits = as_int(a), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), set_int(1));
        const I rounded = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, set_int(0x7FFF)), odd), 16);
        const I nan = as_int(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
        const I words = _mm256_blendv_epi8(rounded, set_int(0x7FC0), nan);
        const I packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(words, words), 0x08);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
    }
    static void store(Half* p, F a) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
};

}  // namespace
}  // namespace memfast
