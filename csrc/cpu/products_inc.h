// The products of one vector with several others, over a vector type V of doubles; once per instruction set. A product of
// two float32 numbers is exact in float64, so a fused multiply-add and a separate one give the same bits.
#pragma once
#include "cpu/products.h"

namespace memfast {
namespace {

// Bytes ahead; 512 to 4096 measured alike.
constexpr int64_t kProductsAhead = 2048;

template <class V, int count>
void products_of(const float* a, const float* const* b, int64_t n, double* lanes) {
    constexpr int parts = kProductLanes / V::W;
    typename V::D sums[count][parts];
    for (int k = 0; k < count; ++k)
        for (int j = 0; j < parts; ++j) sums[k][j] = V::load_double(lanes + k * kProductLanes + j * V::W);
    for (int64_t i = 0; i < n; i += kProductLanes) {
        __builtin_prefetch(reinterpret_cast<const char*>(a + i) + kProductsAhead, 0, 3);
        typename V::D x[parts];
        for (int j = 0; j < parts; ++j) x[j] = V::load(a + i + j * V::W);
        for (int k = 0; k < count; ++k)
            for (int j = 0; j < parts; ++j) sums[k][j] = V::multiply_add(x[j], V::load(b[k] + i + j * V::W), sums[k][j]);
    }
    for (int k = 0; k < count; ++k)
        for (int j = 0; j < parts; ++j) V::store_double(lanes + k * kProductLanes + j * V::W, sums[k][j]);
}

// AVX2 has registers for two sums at a time, AVX-512 for four.
template <class V>
void products_kernel(const float* a, const float* const* b, int count, int64_t n, double* lanes) {
    int k = 0;
    if constexpr (V::together >= 4) {
        if (count == 4) return products_of<V, 4>(a, b, n, lanes);
        if (count == 3) return products_of<V, 3>(a, b, n, lanes);
    }
    for (; k + 2 <= count; k += 2) products_of<V, 2>(a, b + k, n, lanes + k * kProductLanes);
    if (k < count) products_of<V, 1>(a, b + k, n, lanes + k * kProductLanes);
}

}  // namespace
}  // namespace memfast
