// The squared distance of two rows of bytes, compiled once per instruction set from this one text.
#pragma once
#include <cstdint>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace memfast {
namespace {

// A slice's sum in one 32-bit lane: at most 16384 * 255**2 < 2**31 for all of them together.
constexpr int64_t kSlice = 16384;

int64_t slice_distance(const uint8_t* a, const uint8_t* b, int64_t n) {
    int64_t i = 0, total = 0;
#if defined(__AVX512BW__)
    __m512i sums[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    const auto difference = [&](int64_t at) {
        const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + at));
        const __m256i y = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + at));
        return _mm512_sub_epi16(_mm512_cvtepu8_epi16(x), _mm512_cvtepu8_epi16(y));
    };
    for (; i + 64 <= n; i += 64) {
        const __m512i d = difference(i), e = difference(i + 32);
        sums[0] = _mm512_add_epi32(sums[0], _mm512_madd_epi16(d, d));
        sums[1] = _mm512_add_epi32(sums[1], _mm512_madd_epi16(e, e));
    }
    total = _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]));
#elif defined(__AVX2__)
    __m256i sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    const auto difference = [&](int64_t at) {
        const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a + at));
        const __m128i y = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b + at));
        return _mm256_sub_epi16(_mm256_cvtepu8_epi16(x), _mm256_cvtepu8_epi16(y));
    };
    for (; i + 32 <= n; i += 32) {
        const __m256i d = difference(i), e = difference(i + 16);
        sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(d, d));
        sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(e, e));
    }
    int32_t lanes[8];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), _mm256_add_epi32(sums[0], sums[1]));
    for (const int32_t lane : lanes) total += lane;
#endif
    int32_t rest = 0;
    for (; i < n; ++i) {
        const int32_t difference = int32_t{a[i]} - int32_t{b[i]};
        rest += difference * difference;
    }
    return total + rest;
}

int64_t byte_distance(const uint8_t* a, const uint8_t* b, int64_t n) {
    int64_t total = 0;
    for (int64_t s = 0; s < n; s += kSlice) total += slice_distance(a + s, b + s, n - s < kSlice ? n - s : kSlice);
    return total;
}

}  // namespace
}  // namespace memfast
