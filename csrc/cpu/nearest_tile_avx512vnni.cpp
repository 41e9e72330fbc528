// vpdpbusd: four products of an unsigned with a signed byte, added to 32 bits without saturation.
#include <immintrin.h>

#include <cstring>

#include "cpu/nearest_tile.h"

namespace memfast {
namespace {

constexpr int kRows = 6, kColumns = 64, kVectors = kColumns / 16;

// One step reads 256 bytes of points from L2 and does 24 multiply-adds; the points of the steps after the next few
// are asked for early.
constexpr int kPrefetchBytes = 4096;

template <int count>
void multiply_rows(const void* queries, const void* points, int64_t steps, int32_t* out) {
    const auto* a = static_cast<const int32_t*>(queries);
    const auto* b = static_cast<const char*>(points);
    __m512i sums[count][kVectors];
#pragma GCC unroll 6
    for (int i = 0; i < count; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sums[i][v] = _mm512_setzero_si512();
    }
    for (int64_t s = 0; s < steps; ++s, a += kRows, b += 4 * kColumns) {
        __m512i y[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
            y[v] = _mm512_load_si512(b + 64 * v);
            _mm_prefetch(b + 64 * v + kPrefetchBytes, _MM_HINT_T0);
        }
#pragma GCC unroll 6
        for (int i = 0; i < count; ++i) {
            const __m512i x = _mm512_set1_epi32(a[i]);
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) sums[i][v] = _mm512_dpbusd_epi32(sums[i][v], x, y[v]);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < count; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) _mm512_storeu_si512(out + i * kColumns + v * 16, sums[i][v]);
    }
}

void multiply(const void* queries, int count, const void* points, int64_t steps, int32_t* out) {
    constexpr decltype(&multiply_rows<1>) kByCount[] = {nullptr, multiply_rows<1>, multiply_rows<2>, multiply_rows<3>,
                                                        multiply_rows<4>, multiply_rows<5>, multiply_rows<6>};
    kByCount[count](queries, points, steps, out);
}

void pack_queries(const uint8_t* const* rows, int count, int64_t dim, void* packed) {
    auto* out = static_cast<uint8_t*>(packed);
    const int64_t steps = (dim + 3) / 4;
    if (count < kRows || dim % 4) std::memset(out, 0, steps * kRows * 4);
    for (int i = 0; i < count; ++i) {
        for (int64_t s = 0; s < dim / 4; ++s) std::memcpy(out + (s * kRows + i) * 4, rows[i] + 4 * s, 4);
        if (dim % 4) std::memcpy(out + (dim / 4 * kRows + i) * 4, rows[i] + dim / 4 * 4, dim % 4);
    }
}

// Rows of 16 numbers of 32 bits become columns.
void transpose(__m512i (&r)[16]) {
    __m512i t[16];
    for (int i = 0; i < 8; ++i) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; ++i) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; ++i) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

void pack_points(const uint8_t* const* rows, int count, int64_t dim, void* packed) {
    auto* out = static_cast<char*>(packed);
    const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
    const int64_t steps = (dim + 3) / 4;
    for (int v = 0; v < kVectors; ++v) {
        for (int64_t s = 0; s < steps; s += 16) {
            const int64_t left = dim - 4 * s;
            const __mmask64 there = left >= 64 ? ~0ull : (1ull << left) - 1;
            __m512i r[16];
            for (int i = 0; i < 16; ++i) {
                const int row = v * 16 + i;
                r[i] = row < count ? _mm512_maskz_loadu_epi8(there, rows[row] + 4 * s) : _mm512_setzero_si512();
                if (row < count) r[i] = _mm512_maskz_mov_epi8(there, _mm512_xor_si512(r[i], sign));
            }
            transpose(r);
            const int here = static_cast<int>(steps - s < 16 ? steps - s : 16);
            for (int i = 0; i < here; ++i) _mm512_store_si512(out + (s + i) * 4 * kColumns + v * 64, r[i]);
        }
    }
}

uint64_t mask_of(const __m512i (&keys)[kVectors], uint32_t limit, uint32_t* out) {
    const __m512i top = _mm512_set1_epi32(static_cast<int>(limit));
    uint64_t mask = 0;
    for (int v = 0; v < kVectors; ++v)
        mask |= static_cast<uint64_t>(_mm512_cmplt_epu32_mask(keys[v], top)) << (16 * v);
    if (mask) {
        for (int v = 0; v < kVectors; ++v) _mm512_storeu_si512(out + 16 * v, keys[v]);
    }
    return mask;
}

uint64_t integer_keys_512(const int32_t* products, const uint32_t* norms, uint32_t base, uint32_t limit,
                          uint32_t* out) {
    __m512i keys[kVectors];
    const __m512i start = _mm512_set1_epi32(static_cast<int>(base));
    for (int v = 0; v < kVectors; ++v) {
        const __m512i twice = _mm512_slli_epi32(_mm512_loadu_si512(products + 16 * v), 1);
        keys[v] = _mm512_sub_epi32(_mm512_add_epi32(start, _mm512_loadu_si512(norms + 16 * v)), twice);
    }
    return mask_of(keys, limit, out);
}

uint64_t float_keys_512(const int32_t* products, const FloatPanel& p, const FloatQuery& q, uint32_t limit,
                        uint32_t* out) {
    __m512i keys[kVectors];
    const __m512 scale = _mm512_set1_ps(q.scale), norm = _mm512_set1_ps(q.norm), length = _mm512_set1_ps(q.length),
                 error = _mm512_set1_ps(q.error);
    for (int v = 0; v < kVectors; ++v) {
        const __m512i product = _mm512_sub_epi32(_mm512_loadu_si512(products + 16 * v),
                                                 _mm512_load_si512(p.offset + 16 * v));
        __m512 slack = _mm512_mul_ps(error, _mm512_load_ps(p.length + 16 * v));
        slack = _mm512_fmadd_ps(length, _mm512_load_ps(p.error + 16 * v), slack);
        __m512 value = _mm512_add_ps(norm, _mm512_load_ps(p.norm + 16 * v));
        value = _mm512_fnmadd_ps(_mm512_mul_ps(scale, _mm512_load_ps(p.scale + 16 * v)), _mm512_cvtepi32_ps(product),
                                 value);
        value = _mm512_max_ps(_mm512_sub_ps(value, slack), _mm512_setzero_ps());
        keys[v] = _mm512_castps_si512(value);
    }
    return mask_of(keys, limit, out);
}

}  // namespace

const TileKernel kTileAvx512Vnni{"avx512vnni", kRows, kColumns, 4, 1, pack_queries, pack_points,
                                 multiply, integer_keys_512, float_keys_512};

}  // namespace memfast
