// The products of one vector with several others, over a vector type V of doubles; once per instruction set. A product of
// two float32 numbers is exact in float64, so a fused multiply-add and a separate one give the same bits.
#pragma once
#include "cpu/products.h"

namespace memfast {
namespace {

// Bytes ahead; 512 to 4096 measured alike.
constexpr int64_t kProductsAhead = 2048;

// Of `count` products the last is that of `a` with itself if `with_itself`.
template <class V, int count, bool with_itself>
void products_of(const float* a, const double* const* b, int64_t n, double* lanes) {
    constexpr int parts = kProductLanes / V::W, others = count - with_itself;
    typename V::D sums[count][parts];
    for (int k = 0; k < count; ++k)
        for (int j = 0; j < parts; ++j) sums[k][j] = V::load_double(lanes + k * kProductLanes + j * V::W);
    for (int64_t i = 0; i < n; i += kProductLanes) {
        __builtin_prefetch(reinterpret_cast<const char*>(a + i) + kProductsAhead, 0, 3);
        for (int j = 0; j < parts; ++j) {
            const typename V::D x = V::load(a + i + j * V::W);
            for (int k = 0; k < others; ++k)
                sums[k][j] = V::multiply_add(x, V::load_double(b[k] + i + j * V::W), sums[k][j]);
            if (with_itself) sums[others][j] = V::multiply_add(x, x, sums[others][j]);
        }
    }
    for (int k = 0; k < count; ++k)
        for (int j = 0; j < parts; ++j) V::store_double(lanes + k * kProductLanes + j * V::W, sums[k][j]);
}

template <class V, int count>
void products_with(const float* a, const double* const* b, int64_t n, double* lanes) {
    if (b[count - 1])
        products_of<V, count, false>(a, b, n, lanes);
    else
        products_of<V, count, true>(a, b, n, lanes);
}

// AVX2 has registers for the sums of three products.
template <class V>
void products_kernel(const float* a, const double* const* b, int count, int64_t n, double* lanes) {
    if (count == 4 && V::together < 4) {
        products_with<V, 2>(a, b, n, lanes);
        return products_with<V, 2>(a, b + 2, n, lanes + 2 * kProductLanes);
    }
    switch (count) {
        case 1: return products_with<V, 1>(a, b, n, lanes);
        case 2: return products_with<V, 2>(a, b, n, lanes);
        case 3: return products_with<V, 3>(a, b, n, lanes);
        default: return products_with<V, 4>(a, b, n, lanes);
    }
}

template <class V>
void to_double_kernel(const float* from, int64_t n, double* to) {
    int64_t i = 0;
    for (; i + V::W <= n; i += V::W) V::store_double(to + i, V::load(from + i));
    for (; i < n; ++i) to[i] = double(from[i]);
}

}  // namespace
}  // namespace memfast
