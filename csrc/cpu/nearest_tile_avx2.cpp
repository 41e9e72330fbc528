// 16-bit multiply-add of pairs: exact, where the 8-bit instruction of AVX2 would saturate.
#include <immintrin.h>

#include "cpu/nearest_tile.h"

namespace memfast {
namespace {

constexpr int kRows = 6, kColumns = 16;

// Pairs of neighbouring dimensions, widened to 16 bits.
template <int width, int shift>
void pack_pairs(const uint8_t* const* rows, int count, int64_t dim, void* packed) {
    auto* out = static_cast<int16_t*>(packed);
    const int64_t steps = (dim + 1) / 2;
    for (int i = 0; i < width; ++i) {
        int16_t* to = out + 2 * i;
        if (i >= count) {
            for (int64_t s = 0; s < steps; ++s, to += 2 * width) to[0] = to[1] = 0;
            continue;
        }
        const uint8_t* row = rows[i];
        for (int64_t s = 0; s < dim / 2; ++s, to += 2 * width) {
            to[0] = static_cast<int16_t>(row[2 * s] - shift);
            to[1] = static_cast<int16_t>(row[2 * s + 1] - shift);
        }
        if (dim % 2) {
            to[0] = static_cast<int16_t>(row[dim - 1] - shift);
            to[1] = 0;
        }
    }
}

template <int count>
void multiply_rows(const void* queries, const void* points, int64_t steps, int32_t* out) {
    const auto* a = static_cast<const int32_t*>(queries);
    const auto* b = static_cast<const __m256i*>(points);
    __m256i sums[count][2];
#pragma GCC unroll 6
    for (int i = 0; i < count; ++i) sums[i][0] = sums[i][1] = _mm256_setzero_si256();
    for (int64_t s = 0; s < steps; ++s, a += kRows, b += 2) {
        const __m256i y0 = _mm256_load_si256(b), y1 = _mm256_load_si256(b + 1);
#pragma GCC unroll 6
        for (int i = 0; i < count; ++i) {
            // As one piece, because GCC otherwise moves the loads together and spills the sums.
            __m256i x, t;
            asm("vpbroadcastd %[a], %[x]\n\t"
                "vpmaddwd %[y0], %[x], %[t]\n\t"
                "vpmaddwd %[y1], %[x], %[x]\n\t"
                "vpaddd %[t], %[s0], %[s0]\n\t"
                "vpaddd %[x], %[s1], %[s1]"
                : [s0] "+x"(sums[i][0]), [s1] "+x"(sums[i][1]), [x] "=&x"(x), [t] "=&x"(t)
                : [a] "m"(a[i]), [y0] "x"(y0), [y1] "x"(y1));
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < count; ++i) {
        for (int v = 0; v < 2; ++v)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i * kColumns + v * 8), sums[i][v]);
    }
}

void multiply(const void* queries, int count, const void* points, int64_t steps, int32_t* out) {
    constexpr decltype(&multiply_rows<1>) kByCount[] = {nullptr, multiply_rows<1>, multiply_rows<2>, multiply_rows<3>,
                                                        multiply_rows<4>, multiply_rows<5>, multiply_rows<6>};
    kByCount[count](queries, points, steps, out);
}

}  // namespace

const TileKernel kTileAvx2{"avx2", kRows, kColumns, 2, 2, pack_pairs<kRows, 0>, pack_pairs<kColumns, 128>,
                           multiply, integer_keys<kColumns>, float_keys<kColumns>};

}  // namespace memfast
