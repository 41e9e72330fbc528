// The products of one vector with several others, over a vector type V of doubles; once per instruction set. A product of
// two float32 numbers is exact in float64, so a fused multiply-add and a separate one give the same bits.
#pragma once
#include <algorithm>

#include "cpu/products.h"

namespace memfast {
namespace {

// Elements ahead; 128 to 1024 measured alike.
constexpr int64_t kProductsAhead = 512;

// Of `count` products of each of `rows` vectors the last is that of the vector with itself if `with_itself`.
template <class V, int rows, int count, bool with_itself>
void products_of(const ProductTask& task, int64_t n) {
    constexpr int parts = kProductLanes / V::W, others = count - with_itself;
    typename V::D sums[rows][count][parts];
    for (int r = 0; r < rows; ++r)
        for (int k = 0; k < count; ++k)
            for (int j = 0; j < parts; ++j)
                sums[r][k][j] = V::load_double(task.lanes + r * task.lanes_step + k * kProductLanes + j * V::W);
    const float* ahead[rows];
    const int64_t turn = std::max<int64_t>(0, n - kProductsAhead);
    for (int r = 0; r < rows; ++r) ahead[r] = task.a[r] + kProductsAhead;
    for (int64_t i = 0; i < n; i += kProductLanes) {
        if (i == turn)
            for (int r = 0; r < rows; ++r) ahead[r] = task.next[r] - turn;
        for (int r = 0; r < rows; ++r) __builtin_prefetch(ahead[r] + i, 0, 3);
        for (int j = 0; j < parts; ++j) {
            typename V::D x[rows];
            for (int r = 0; r < rows; ++r) x[r] = V::load(task.a[r] + i + j * V::W);
            for (int k = 0; k < others; ++k) {
                const typename V::D y = V::load_double(task.b[k] + i + j * V::W);
                for (int r = 0; r < rows; ++r) sums[r][k][j] = V::multiply_add(x[r], y, sums[r][k][j]);
            }
            if (with_itself)
                for (int r = 0; r < rows; ++r) sums[r][others][j] = V::multiply_add(x[r], x[r], sums[r][others][j]);
        }
    }
    for (int r = 0; r < rows; ++r)
        for (int k = 0; k < count; ++k)
            for (int j = 0; j < parts; ++j)
                V::store_double(task.lanes + r * task.lanes_step + k * kProductLanes + j * V::W, sums[r][k][j]);
}

template <class V, int rows, int count>
void products_with(const ProductTask& task, int64_t n) {
    if (task.b[count - 1])
        products_of<V, rows, count, false>(task, n);
    else
        products_of<V, rows, count, true>(task, n);
}

template <class V, int rows>
void products_rows(const ProductTask& task, int count, int64_t n) {
    switch (count) {
        case 1: return products_with<V, rows, 1>(task, n);
        case 2: return products_with<V, rows, 2>(task, n);
        default: return products_with<V, rows, 3>(task, n);
    }
}

// Sixteen registers hold the sums of one vector's three products.
template <class V>
void products_kernel(const ProductTask& task, int rows, int count, int64_t n) {
    if constexpr (V::rows == kProductRows)
        if (rows == kProductRows) return products_rows<V, kProductRows>(task, count, n);
    products_rows<V, 1>(task, count, n);
}

template <class V>
void to_double_kernel(const float* from, int64_t n, double* to) {
    int64_t i = 0;
    for (; i + V::W <= n; i += V::W) V::store_double(to + i, V::load(from + i));
    for (; i < n; ++i) to[i] = double(from[i]);
}

}  // namespace
}  // namespace memfast
