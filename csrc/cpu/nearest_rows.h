// What the search does with single rows of floats: centre, put on a grid of bytes, and measure exactly.
#pragma once
#include <cstdint>

#include "cpu/nearest.h"

namespace memfast {

// The centre and power of two that rows are moved by before the screen; any values keep the certificate true.
struct Centre {
    const double* mean;
    const float* mean_float;
    double scale;
    bool in_double;  // subtract in float64: at least one side holds float64
};

// A row on its own grid: row = scale * (bytes - 128) + rest.
struct GridRow {
    float scale;
    double squares;       // |row|^2 of the centred row, within 64 float32 roundings
    double rest_squares;  // |rest|^2, likewise
};

struct RowKernel {
    void (*centre)(const void* row, NumberType type, const Centre& centre, int64_t dim, float* out);
    GridRow (*to_grid)(const float* row, int64_t dim, uint8_t* bytes);
    void (*to_double)(const void* row, NumberType type, int64_t dim, double* out);
    // Squared distances of one query to four rows, in the order that memfast/ops/reference/nearest.py defines.
    // `query` holds zeros up to a multiple of eight.
    void (*squared_distances)(const double* query, const void* const* rows, NumberType type, int64_t dim, double* out);
    // Whether a row holds NaN, infinity or a magnitude above `largest`.
    bool (*is_bad)(const void* row, NumberType type, int64_t dim, double largest);
};

const RowKernel& row_kernel();

extern const RowKernel kRowsPortable;
#if MEMFAST_X86
extern const RowKernel kRowsAvx2;
extern const RowKernel kRowsAvx512;
#endif

}  // namespace memfast
