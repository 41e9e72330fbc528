// Exact nearest rows of a block, and all rows within a radius, on the CPU. memfast/ops/nearest.py defines the results,
// docs/exactness.md proves them.
#pragma once
#include <cstdint>
#include <vector>

#include "number_types.h"

namespace memfast {

// A matrix of rows; the stride between rows is in bytes, numbers of a row lie side by side.
struct RowsView {
    const void* data;
    int64_t count, dim, stride;
    NumberType type;

    const void* row(int64_t i) const { return static_cast<const char*>(data) + i * stride; }
};

struct NearestRequest {
    RowsView queries, points;
    int64_t k;
    const int64_t* exclude;  // [queries] or null
    int threads;
};

// Pairs sorted by (query, distance, index).
template <class Distance>
struct Pairs {
    std::vector<int64_t> query, index;
    std::vector<Distance> distance;
};

// distances, indices: [queries, k]. bound: [queries] or null; where there is no neighbour the maximum and -1.
void nearest_uint8(const NearestRequest& request, const int64_t* bound, int64_t* distances, int64_t* indices);
Pairs<int64_t> range_search_uint8(const NearestRequest& request, int64_t radius_squared);

// Returns how many queries needed more than the first screen. Every number must be finite (first_bad_row).
int64_t nearest_float(const NearestRequest& request, const double* bound, double* distances, int64_t* indices);
Pairs<double> range_search_float(const NearestRequest& request, double radius_squared);

// The first row with NaN, infinity or a magnitude above `largest`; -1 if there is none.
int64_t first_bad_row(const RowsView& rows, double largest, int threads);

}  // namespace memfast
