// Pixels: squared distances are integers, |x|^2 + |y|^2 - 2xy without rounding (docs/exactness.md).
#include <limits>

#include "cpu/nearest.h"
#include "cpu/nearest_search.h"

namespace memfast {
namespace {

struct ByteSums {
    int64_t sum, squares;
};

ByteSums sums_of(const uint8_t* row, int64_t dim) {
    ByteSums total{0, 0};
    constexpr int64_t kSlice = 32768;  // 32768 * 255**2 < 2**32
    for (int64_t s = 0; s < dim; s += kSlice) {
        const int64_t end = dim - s < kSlice ? dim : s + kSlice;
        uint32_t sum = 0, squares = 0;
        for (int64_t d = s; d < end; ++d) {
            const uint32_t v = row[d];
            sum += v;
            squares += v * v;
        }
        total.sum += sum;
        total.squares += squares;
    }
    return total;
}

struct ByteMetric {
    const TileKernel& kernel;
    const RowsView& query_rows;
    const RowsView& point_rows;
    int64_t dim;

    // Up to here a squared distance is below 2**32.
    static constexpr int64_t kMaxNarrow = 66048;

    struct PointSide {
        alignas(64) uint32_t low[TileKernel::kMaxColumns];  // |y|^2 modulo 2**32
        uint64_t squares[TileKernel::kMaxColumns];
    };
    struct QuerySide {
        uint64_t base;  // |x|^2 - 2 * 128 * sum(x), modulo 2**64
    };

    void pack_points(int64_t first, int count, void* packed, PointSide& side) const {
        const uint8_t* rows[TileKernel::kMaxColumns];
        for (int j = 0; j < kernel.columns; ++j) {
            side.squares[j] = 0;
            if (j < count) {
                rows[j] = static_cast<const uint8_t*>(point_rows.row(first + j));
                side.squares[j] = static_cast<uint64_t>(sums_of(rows[j], dim).squares);
            }
            side.low[j] = static_cast<uint32_t>(side.squares[j]);
        }
        kernel.pack_points(rows, count, dim, packed);
    }

    void pack_queries(int64_t first, int count, void* packed, QuerySide* sides) const {
        const uint8_t* rows[TileKernel::kMaxRows];
        for (int i = 0; i < count; ++i) {
            rows[i] = static_cast<const uint8_t*>(query_rows.row(first + i));
            const ByteSums sums = sums_of(rows[i], dim);
            sides[i].base = static_cast<uint64_t>(sums.squares - 256 * sums.sum);
        }
        kernel.pack_queries(rows, count, dim, packed);
    }

    uint64_t keys(const int32_t* products, const PointSide& side, const QuerySide& query, uint32_t limit,
                  uint32_t* out) const {
        return kernel.integer_keys(products, side.low, static_cast<uint32_t>(query.base), limit, out);
    }

    uint64_t wide_key(int64_t product, const PointSide& side, int column, const QuerySide& query) const {
        return query.base + side.squares[column] - 2 * static_cast<uint64_t>(product);
    }
};

// The exclusive limit that lets distances up to `bound` pass; no distance reaches 2**62.
uint64_t limit_of(int64_t bound) {
    if (bound < 0) return 0;
    return static_cast<uint64_t>(std::min<int64_t>(bound, int64_t{1} << 62)) + 1;
}

}  // namespace

void nearest_uint8(const NearestRequest& request, const int64_t* bound, int64_t* distances, int64_t* indices) {
    const ByteMetric metric{tile_kernel(), request.queries, request.points, request.queries.dim};
    Search<ByteMetric> search(metric, {request.queries.count, request.points.count, request.k, request.exclude,
                                       request.threads});
    const int shift = search.shift();
    const uint64_t index_mask = (uint64_t{1} << shift) - 1;
    search.run([&](int64_t q) { return bound ? limit_of(bound[q]) : uint64_t{1} << 62; },
               [&](int64_t q, Candidates& found) {
                   const int64_t k = request.k, count = std::min<int64_t>(k, found.entries.size());
                   const auto begin = found.entries.begin(), last = begin + count;
                   if (last != found.entries.end()) std::nth_element(begin, last, found.entries.end());
                   std::sort(begin, last);
                   for (int64_t i = 0; i < k; ++i) {
                       distances[q * k + i] = i < count ? static_cast<int64_t>(found.entries[i] >> shift)
                                                        : std::numeric_limits<int64_t>::max();
                       indices[q * k + i] = i < count ? static_cast<int64_t>(found.entries[i] & index_mask) : -1;
                   }
               });
}

Pairs<int64_t> range_search_uint8(const NearestRequest& request, int64_t radius_squared) {
    const ByteMetric metric{tile_kernel(), request.queries, request.points, request.queries.dim};
    Search<ByteMetric> search(metric, {request.queries.count, request.points.count, 0, request.exclude, request.threads});
    const int shift = search.shift();
    const uint64_t index_mask = (uint64_t{1} << shift) - 1;
    PairCollector<int64_t> collector(request.queries.count);
    search.run([&](int64_t) { return limit_of(radius_squared); },
               [&](int64_t q, Candidates& found) {
                   std::vector<std::pair<int64_t, int64_t>> pairs;
                   for (const uint64_t entry : found.entries)
                       pairs.emplace_back(static_cast<int64_t>(entry >> shift), static_cast<int64_t>(entry & index_mask));
                   collector.add(q, pairs);
               });
    return collector.sorted();
}

}  // namespace memfast
