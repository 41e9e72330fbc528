// 16-bit multiply-add of pairs: exact, where the 8-bit instruction of AVX2 would saturate.
#include <immintrin.h>

#include "cpu/nearest_keys.h"

namespace memfast {
namespace {

constexpr int kRows = 6, kColumns = 16;

template <int count>
void multiply_rows(const void* queries, const void* points, int64_t steps, int32_t* out) {
    const auto* a = static_cast<const int32_t*>(queries);
    const auto* b = static_cast<const __m256i*>(points);
    __m256i sums[count][2];
    for (int i = 0; i < count; ++i) sums[i][0] = sums[i][1] = _mm256_setzero_si256();
    for (int64_t s = 0; s < steps; ++s, a += kRows, b += 2) {
        const __m256i y0 = _mm256_load_si256(b), y1 = _mm256_load_si256(b + 1);
#pragma GCC unroll 6
        for (int i = 0; i < count; ++i) {
            const __m256i x = _mm256_set1_epi32(a[i]);
            sums[i][0] = _mm256_add_epi32(sums[i][0], _mm256_madd_epi16(x, y0));
            sums[i][1] = _mm256_add_epi32(sums[i][1], _mm256_madd_epi16(x, y1));
        }
    }
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
