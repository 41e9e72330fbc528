// Squared distances of chosen pairs of rows, and the pairs below a limit of each query: what a search by lower bounds
// needs beside the search over tiles. memfast/ops/pairs.py defines the results.
#pragma once
#include <cstdint>

#include "cpu/nearest.h"

namespace memfast {

// All pairs of byte rows at a squared distance of at most their query's bound, sorted by (query, index).
Pairs<int64_t> candidates_uint8(const NearestRequest& request, const int64_t* bound);

// Which pairs: query q with the points indices[starts[q]] to indices[starts[q + 1] - 1]; without indices, with all.
struct PairList {
    const int64_t* starts;   // [queries + 1] or null
    const int64_t* indices;  // [pairs] or null

    int64_t begin(int64_t query, int64_t points) const { return indices ? starts[query] : query * points; }
    int64_t end(int64_t query, int64_t points) const { return indices ? starts[query + 1] : (query + 1) * points; }
    int64_t point(int64_t pair, int64_t first) const { return indices ? indices[pair] : pair - first; }
};

void pair_distances_uint8(const NearestRequest& request, const PairList& pairs, int64_t* distances);
// In the order of addition that defines a distance of floats (docs/exactness.md).
void pair_distances_float(const NearestRequest& request, const PairList& pairs, double* distances);

using ByteDistance = int64_t (*)(const uint8_t* a, const uint8_t* b, int64_t n);
extern const ByteDistance kByteDistancePortable;
#if MEMFAST_X86
extern const ByteDistance kByteDistanceAvx2, kByteDistanceAvx512;
#endif

}  // namespace memfast
