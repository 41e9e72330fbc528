// The screen of float rows: each row on its own byte grid, and a lower bound of every squared distance. The proof of
// the bound, and of the constants here, is in docs/exactness.md.
#pragma once
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "cpu/nearest_rows.h"
#include "cpu/nearest_search.h"

#if MEMFAST_X86
#include <xmmintrin.h>
#endif

namespace memfast {

// Denormal numbers count here, whatever mode the calling thread is in.
class PlainFloats {
  public:
#if MEMFAST_X86
    PlainFloats() : saved_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
    ~PlainFloats() { _mm_setcsr(saved_); }

  private:
    unsigned saved_;
#else
    PlainFloats() {}
    ~PlainFloats() {}
#endif
};

struct FloatMetric {
    static constexpr double kUnit = 1.0 / (1 << 24);
    static constexpr double kNormSlack = 256 * kUnit;    // roundings of norms and keys, relative to |x|^2 + |y|^2
    static constexpr double kRestSlack = 8 * kUnit;      // roundings of the centred numbers, relative to |x|
    static constexpr double kInflate = 1 + 1e-4;         // roundings of sums and roots that must not shrink
    static constexpr double kAbsolute = 1e-27;           // underflow, in units of the typical squared norm
    static constexpr double kLargestSquares = 1e30;      // rows beyond are candidates of every query
    static constexpr int64_t kMaxDim = 131072;           // 127 * 127 * kMaxDim < 2**31

    const TileKernel& kernel;
    const RowKernel& rows_kernel;
    const RowsView& query_rows;
    const RowsView& point_rows;
    const Centre& centre;
    const std::vector<int64_t>* chosen;  // numbers of the queries to search for; null: all
    int64_t dim;

    using PointSide = FloatPanel;
    using QuerySide = FloatQuery;

    int64_t query_number(int64_t i) const { return chosen ? (*chosen)[i] : i; }

    struct Bounds {
        float scale, norm, length, rest;
    };

    Bounds place(const void* row, NumberKind kind, float* centred, uint8_t* bytes) const {
        rows_kernel.centre(row, kind, centre, dim, centred);
        const GridRow grid = rows_kernel.to_grid(centred, dim, bytes);
        if (!(grid.squares <= kLargestSquares)) {
            std::memset(bytes, 128, dim);
            return {0.0f, -std::numeric_limits<float>::infinity(), 0.0f, 0.0f};
        }
        const double length = std::sqrt(grid.squares);
        const double rest = std::sqrt(grid.rest_squares) * kInflate + length * kRestSlack + kAbsolute;
        return {grid.scale, static_cast<float>(grid.squares * (1 - kNormSlack) - kAbsolute),
                static_cast<float>(length * kInflate + kAbsolute), static_cast<float>(rest * kInflate)};
    }

    void pack_points(int64_t first, int count, void* packed, PointSide& side) const {
        const PlainFloats plain;
        const int64_t row_bytes = (dim + 63) / 64 * 64;
        std::vector<uint8_t> bytes(count * row_bytes);
        std::vector<float> centred(dim + 16);
        const uint8_t* rows[TileKernel::kMaxColumns];
        std::memset(&side, 0, sizeof(side));
        for (int j = 0; j < count; ++j) {
            uint8_t* to = bytes.data() + j * row_bytes;
            const Bounds b = place(point_rows.row(first + j), point_rows.kind, centred.data(), to);
            rows[j] = to;
            side.scale[j] = b.scale;
            side.norm[j] = b.norm;
            side.length[j] = b.length;
            side.error[j] = b.rest;
            int64_t sum = 0;
            for (int64_t d = 0; d < dim; ++d) sum += to[d];
            side.offset[j] = static_cast<int32_t>(static_cast<uint32_t>(128 * (sum - 128 * dim)));
        }
        kernel.pack_points(rows, count, dim, packed);
    }

    void pack_queries(int64_t first, int count, void* packed, QuerySide* sides) const {
        const PlainFloats plain;
        std::vector<uint8_t> bytes(count * dim);
        std::vector<float> centred(dim + 16);
        const uint8_t* rows[TileKernel::kMaxRows];
        for (int i = 0; i < count; ++i) {
            uint8_t* to = bytes.data() + i * dim;
            const Bounds b = place(query_rows.row(query_number(first + i)), query_rows.kind, centred.data(), to);
            rows[i] = to;
            sides[i] = {2 * b.scale, b.norm, static_cast<float>(2 * (double{b.length} + b.rest) * kInflate),
                        static_cast<float>(2 * double{b.rest} * kInflate)};
        }
        kernel.pack_queries(rows, count, dim, packed);
    }

    uint64_t keys(const int32_t* products, const PointSide& side, const QuerySide& query, uint32_t limit,
                  uint32_t* out) const {
        return kernel.float_keys(products, side, query, limit, out);
    }

    // Never needed: kMaxDim dimensions fit 32 bits.
    uint64_t wide_key(int64_t, const PointSide&, int, const QuerySide&) const { return 0; }
    static constexpr int64_t kMaxNarrow = kMaxDim;

    // A key as a squared distance of the data, never above the true one; and the exclusive limit that lets all
    // squared distances up to `bound` pass.
    double distance_of(uint64_t key) const {
        const auto bits = static_cast<uint32_t>(key);
        float value;
        std::memcpy(&value, &bits, 4);
        // The float64 sum that it is compared with may be this much below the true distance.
        return std::ldexp(static_cast<double>(value) * (1 - (static_cast<double>(dim) + 16) * 0x1p-53), -2 * exponent);
    }
    uint64_t limit_of(double bound) const {
        if (!(bound >= 0)) return 0;
        const double scaled = std::ldexp(bound * (1 + (static_cast<double>(dim) + 16) * 0x1p-52), 2 * exponent);
        if (!(scaled < 3e38)) return 0x7f800001u;
        return uint64_t{bits_of(static_cast<float>(scaled))} + 2;
    }

    int exponent;

  private:
    static uint32_t bits_of(float value) {
        uint32_t bits;
        std::memcpy(&bits, &value, 4);
        return bits;
    }
};

}  // namespace memfast
