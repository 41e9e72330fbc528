// Bytes as the search over tiles sees them: squared distances are integers, |x|^2 + |y|^2 - 2xy without rounding
// (docs/exactness.md).
#pragma once
#include <algorithm>
#include <cstdint>

#include "cpu/nearest.h"
#include "cpu/nearest_search.h"

namespace memfast {

struct ByteSums {
    int64_t sum, squares;
};

inline ByteSums sums_of(const uint8_t* row, int64_t dim) {
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
inline uint64_t limit_of(int64_t bound) {
    if (bound < 0) return 0;
    return static_cast<uint64_t>(std::min<int64_t>(bound, int64_t{1} << 62)) + 1;
}

}  // namespace memfast
