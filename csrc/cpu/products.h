// Inner products of named pairs of vectors, row by row, in float64: each vector is read from memory once.
#pragma once
#include <cstdint>

#include "cpu/number_types.h"

namespace memfast {

// Rows of one tensor; a stride of 0 gives every row the same vector.
struct Vectors {
    const void* data;
    Number type;
    int64_t stride;  // elements from one row to the next
};

struct Pair { int64_t first, second; };

// out [rows, count]: out[row][p] = sum over elements of tensors[pairs[p].first][row] * tensors[pairs[p].second][row].
void inner_products(const Vectors* tensors, int64_t n, int64_t rows, int64_t elements, const Pair* pairs, int64_t count,
                    double* out, int threads);

constexpr int kProductLanes = 16;  // partial sums: element i goes to lane i % 16
constexpr int kProductsTogether = 4;

struct ProductKernel {
    // lanes [count][16] += products of `a` with each of `b` (1 to kProductsTogether); the last may be null: `a` itself.
    // n is a multiple of 16.
    void (*multiply)(const float* a, const double* const* b, int count, int64_t n, double* lanes);
    void (*to_double)(const float* from, int64_t n, double* to);
};
extern const ProductKernel kProductsPortable, kProductsAvx2, kProductsAvx512;

}  // namespace memfast
