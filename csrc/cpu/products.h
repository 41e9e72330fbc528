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
constexpr int kProductsTogether = 3, kProductRows = 4;  // sums of so many fit thirty-two registers

// Products of `a[r]` with each of `b` (1 to kProductsTogether); the last of `b` may be null: `a[r]` itself.
struct ProductTask {
    const float* a[kProductRows];
    const float* next[kProductRows];  // what is read afterwards
    const double* const* b;
    double* lanes;       // += the partial sums; [count][16] for each row
    int64_t lanes_step;  // from one row's to the next
};

struct ProductKernel {
    // n is a multiple of 16; 1 <= count <= kProductsTogether.
    void (*multiply)(const ProductTask& task, int rows, int count, int64_t n);
    void (*to_double)(const float* from, int64_t n, double* to);
    int rows;  // multiplied together where they have the same `b`: 1 or kProductRows
};
extern const ProductKernel kProductsPortable, kProductsAvx2, kProductsAvx512;

}  // namespace memfast
