// Inner products of named pairs of vectors, row by row, in float64: each vector is read from memory once.
#pragma once
#include <cstdint>

#include "number_types.h"

namespace memfast {

// The vectors of one tensor: each serves `repeat` consecutive rows.
struct Vectors {
    const void* data;
    NumberType type;
    int64_t stride;  // elements from one vector to the next
    int64_t repeat;
};

struct Pair { int64_t first, second; };

// out [count, rows]: out[p][row] = sum over elements of tensors[pairs[p].first][row] * tensors[pairs[p].second][row].
void inner_products(const Vectors* tensors, int64_t n, int64_t rows, int64_t elements, const Pair* pairs, int64_t count,
                    double* out, int threads);

constexpr int kProductLanes = 16;  // partial sums: element i goes to lane i % 16
// A task's sums stay in registers: up to kMostProducts products of one vector, or kMostProductsOfRows of each of
// kProductRows vectors.
constexpr int kMostProducts = 5, kProductRows = 4, kMostProductsOfRows = 3;

// Products of `a[r]` with each of `b`; the last of `b` may be null: `a[r]` itself.
struct ProductTask {
    const float* a[kProductRows];
    const float* next[kProductRows];  // what is read afterwards
    const double* b[kMostProducts];  // padded by zeros to a multiple of the lanes
    double* lanes;  // [rows][count][16], the partial sums
    bool more;      // add to those that are there
};

struct ProductKernel {
    // `count` products of each of `rows` vectors, over n elements.
    void (*multiply)(const ProductTask& task, int rows, int count, int64_t n);
    void (*to_double)(const float* from, int64_t n, double* to);
    // sums[k] = the k-th sixteen lanes, added in one order.
    void (*add_lanes)(const double* lanes, int64_t count, double* sums);
    int rows, most;      // what the registers hold: 1 or kProductRows, 3 to kMostProducts
};
extern const ProductKernel kProductsPortable, kProductsAvx2, kProductsAvx512;

}  // namespace memfast
