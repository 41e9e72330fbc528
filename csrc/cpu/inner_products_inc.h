// The products of one vector with several others, over a vector type V of doubles; once per instruction set. A product of
// two float32 numbers is exact in float64, so a fused multiply-add and a separate one give the same bits.
#pragma once
#include <algorithm>

#include "cpu/inner_products.h"

namespace memfast {
namespace {

// Elements ahead; 128 to 1024 measured alike.
constexpr int64_t kProductsAhead = 512;

// Of `count` products of each of `rows` vectors the last is that of the vector with itself if `with_itself`.
template <class V, int rows, int count, bool with_itself>
void products_of(const ProductTask& task, int64_t n) {
    constexpr int parts = kProductLanes / V::W, others = count - with_itself;
    typename V::D sums[rows][count][parts] = {};
    for (int r = 0; r < rows && task.more; ++r)
        for (int k = 0; k < count; ++k)
            for (int j = 0; j < parts; ++j)
                sums[r][k][j] = V::load_double(task.lanes + (r * count + k) * kProductLanes + j * V::W);
    // The lanes' next elements: those from a[r], and those from i of each second vector.
    const auto add = [&](const float* const* a, int64_t i) {
        for (int j = 0; j < parts; ++j) {
            typename V::D x[rows];
            for (int r = 0; r < rows; ++r) x[r] = V::load(a[r] + j * V::W);
            for (int k = 0; k < others; ++k) {
                const typename V::D y = V::load_double(task.b[k] + i + j * V::W);
                for (int r = 0; r < rows; ++r) sums[r][k][j] = V::multiply_add(x[r], y, sums[r][k][j]);
            }
            if (with_itself)
                for (int r = 0; r < rows; ++r) sums[r][others][j] = V::multiply_add(x[r], x[r], sums[r][others][j]);
        }
    };
    const float *at[rows], *ahead[rows];
    const int64_t whole = n / kProductLanes * kProductLanes, turn = std::max<int64_t>(0, whole - kProductsAhead);
    for (int r = 0; r < rows; ++r) ahead[r] = task.a[r] + kProductsAhead;
    for (int64_t i = 0; i < whole; i += kProductLanes) {
        if (i == turn)
            for (int r = 0; r < rows; ++r) ahead[r] = task.next[r] - turn;
        for (int r = 0; r < rows; ++r) __builtin_prefetch(ahead[r] + i, 0, 3);
        for (int r = 0; r < rows; ++r) at[r] = task.a[r] + i;
        add(at, i);
    }
    if (whole != n) {
        float last[rows][kProductLanes] = {};
        for (int r = 0; r < rows; ++r) {
            std::copy(task.a[r] + whole, task.a[r] + n, last[r]);
            at[r] = last[r];
        }
        add(at, whole);
    }
    for (int r = 0; r < rows; ++r)
        for (int k = 0; k < count; ++k)
            for (int j = 0; j < parts; ++j)
                V::store_double(task.lanes + (r * count + k) * kProductLanes + j * V::W, sums[r][k][j]);
}

template <class V, int rows, int count>
void products_with(const ProductTask& task, int64_t n) {
    if (task.b[count - 1])
        products_of<V, rows, count, false>(task, n);
    else
        products_of<V, rows, count, true>(task, n);
}

template <class V, int rows, int most>
void products_rows(const ProductTask& task, int count, int64_t n) {
    if constexpr (most > 1)
        if (count < most) return products_rows<V, rows, most - 1>(task, count, n);
    products_with<V, rows, most>(task, n);
}

template <class V>
void products_kernel(const ProductTask& task, int rows, int count, int64_t n) {
    if constexpr (V::rows == kProductRows)
        if (rows == kProductRows) return products_rows<V, kProductRows, kMostProductsOfRows>(task, count, n);
    products_rows<V, 1, V::most>(task, count, n);
}

template <class V>
void to_double_kernel(const float* from, int64_t n, double* to) {
    int64_t i = 0;
    for (; i + V::W <= n; i += V::W) V::store_double(to + i, V::load(from + i));
    for (; i < n; ++i) to[i] = double(from[i]);
}

// Lane j and j + 8, then j + 4, j + 2, j + 1.
template <class V>
void add_lanes_kernel(const double* lanes, int64_t count, double* sums) {
    for (int64_t k = 0; k < count; ++k, lanes += kProductLanes) {
        double eight[8], four[4];
        for (int j = 0; j < 8; ++j) eight[j] = lanes[j] + lanes[j + 8];
        for (int j = 0; j < 4; ++j) four[j] = eight[j] + eight[j + 4];
        sums[k] = (four[0] + four[2]) + (four[1] + four[3]);
    }
}

template <class V>
constexpr ProductKernel product_kernel_of() {
    return {products_kernel<V>, to_double_kernel<V>, add_lanes_kernel<V>, V::rows, V::most};
}

}  // namespace
}  // namespace memfast
