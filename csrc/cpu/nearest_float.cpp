// Floats: screen by lower bounds, measure the survivors in float64, certify, and measure every point where the
// certificate fails. The proof, and that of every constant here, is in docs/exactness.md.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "cpu/nearest.h"
#include "cpu/nearest_direct.h"
#include "cpu/nearest_rows.h"
#include "cpu/nearest_search.h"

namespace memfast {
namespace {

// Candidates kept for k neighbours: enough that a byte grid usually certifies.
constexpr int64_t kKeepFactor = 4, kKeepExtra = 192;
// The second try keeps this many times more.
constexpr int64_t kWiden = 8;
constexpr int64_t kSampleNumbers = 1 << 22, kMinSample = 64, kMaxSample = 4096;

// The screen: each row on its own byte grid, and a lower bound of every squared distance.
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

    Bounds place(const void* row, NumberType type, float* centred, uint8_t* bytes) const {
        rows_kernel.centre(row, type, centre, dim, centred);
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
            const int64_t row_bytes = (dim + 63) / 64 * 64;
        std::vector<uint8_t> bytes(count * row_bytes);
        std::vector<float> centred(dim + 16);
        const uint8_t* rows[TileKernel::kMaxColumns];
        std::memset(&side, 0, sizeof(side));
        for (int j = 0; j < count; ++j) {
            uint8_t* to = bytes.data() + j * row_bytes;
            const Bounds b = place(point_rows.row(first + j), point_rows.type, centred.data(), to);
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
            std::vector<uint8_t> bytes(count * dim);
        std::vector<float> centred(dim + 16);
        const uint8_t* rows[TileKernel::kMaxRows];
        for (int i = 0; i < count; ++i) {
            uint8_t* to = bytes.data() + i * dim;
            const Bounds b = place(query_rows.row(query_number(first + i)), query_rows.type, centred.data(), to);
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

struct CentreData {
    std::vector<double> mean;
    std::vector<float> mean_float;
    int exponent;
    Centre centre;
};

// The mean of evenly spaced rows, and the power of two that brings their median norm to about one.
void find_centre(const NearestRequest& request, CentreData& out) {
    const RowsView& points = request.points;
    const int64_t dim = points.dim;
    const int64_t sample = std::min(points.count, std::clamp(kSampleNumbers / dim, kMinSample, kMaxSample));
    const bool in_double = points.type == NumberType::float64 || request.queries.type == NumberType::float64;
    out.mean.assign(dim, 0);
    std::vector<double> row(dim);
    const RowKernel& kernel = row_kernel();
    const auto each = [&](const auto& function) {
        for (int64_t i = 0; i < sample; ++i) {
            kernel.to_double(points.row(i * points.count / sample), points.type, dim, row.data());
            function(i);
        }
    };
    each([&](int64_t) {
        for (int64_t d = 0; d < dim; ++d) out.mean[d] += row[d] / static_cast<double>(sample);
    });
    std::vector<double> norms(sample);
    each([&](int64_t i) {
        double largest = 0, squares = 0;
        for (int64_t d = 0; d < dim; ++d) largest = std::max(largest, std::fabs(row[d] - out.mean[d]));
        if (largest > 0) {
            for (int64_t d = 0; d < dim; ++d) {
                const double part = (row[d] - out.mean[d]) / largest;
                squares += part * part;
            }
        }
        norms[i] = largest * std::sqrt(squares);
    });
    std::nth_element(norms.begin(), norms.begin() + sample / 2, norms.end());
    const double typical = norms[sample / 2] > 0 ? norms[sample / 2] : *std::max_element(norms.begin(), norms.end());
    const int most = in_double ? 900 : 100;
    out.exponent = typical > 0 ? std::clamp(-std::ilogb(typical), -most, most) : 0;
    out.mean_float.assign(out.mean.begin(), out.mean.end());
    out.centre = {out.mean.data(), out.mean_float.data(), std::ldexp(1.0, out.exponent), in_double};
}

FloatMetric make_metric(const NearestRequest& request, const CentreData& data, const std::vector<int64_t>* chosen) {
    return {tile_kernel(), row_kernel(), request.queries, request.points, data.centre, chosen, request.points.dim,
            data.exponent};
}

// Measures the candidates of one query in the order of their bounds. True if the k nearest are certain.
bool settle(const FloatMetric& metric, const DirectQuery& query, Candidates& found, ExactTop& top) {
    std::sort(found.entries.begin(), found.entries.end());
    const size_t count = found.entries.size();
    for (size_t i = 0; i < count; i += 4) {
        if (metric.distance_of(found.entries[i] >> 32) > top.worst()) break;
        int64_t points[4];
        const size_t here = std::min<size_t>(4, count - i);
        for (size_t r = 0; r < 4; ++r) points[r] = static_cast<int64_t>(found.entries[i + std::min(r, here - 1)] & 0xffffffffu);
        double distances[4];
        query.measure(points, distances);
        for (size_t r = 0; r < here; ++r) top.offer(distances[r], points[r]);
    }
    return !found.dropped || metric.distance_of(found.limit) > top.worst();
}

}  // namespace

int64_t nearest_float(const NearestRequest& request, const double* bound, double* distances, int64_t* indices) {
    const int64_t k = request.k;
    const auto bound_of = [&](int64_t q) { return bound ? bound[q] : std::numeric_limits<double>::infinity(); };
    std::vector<int64_t> open(request.queries.count);
    for (int64_t q = 0; q < request.queries.count; ++q) open[q] = q;
    int64_t fallbacks = 0;
    if (request.points.dim <= FloatMetric::kMaxDim) {
        CentreData data;
        find_centre(request, data);
        int64_t keep = kKeepFactor * k + kKeepExtra;
        for (int attempt = 0; attempt < 2 && !open.empty(); ++attempt, keep *= kWiden) {
            const FloatMetric metric = make_metric(request, data, &open);
            std::vector<int64_t> exclude;
            if (request.exclude) {
                for (const int64_t q : open) exclude.push_back(request.exclude[q]);
            }
            std::vector<uint8_t> failed(open.size());
            const int64_t count = static_cast<int64_t>(open.size());
            Search<FloatMetric> search(metric, {count, request.points.count, keep,
                                                request.exclude ? exclude.data() : nullptr, request.threads});
            search.run([&](int64_t i) { return metric.limit_of(bound_of(open[i])); },
                       [&](int64_t i, Candidates& found) {
                                                  const int64_t q = open[i];
                           ExactTop top(k, bound_of(q));
                           failed[i] = !settle(metric, DirectQuery(request, q), found, top);
                           if (!failed[i]) top.write(distances + q * k, indices + q * k);
                       });
            std::vector<int64_t> left;
            for (int64_t i = 0; i < count; ++i) {
                if (failed[i]) left.push_back(open[i]);
            }
            open.swap(left);
            if (attempt == 0) fallbacks = static_cast<int64_t>(open.size());
        }
    } else {
        fallbacks = request.queries.count;
    }
    nearest_direct(request, open, bound, distances, indices);
    return fallbacks;
}

Pairs<double> range_search_float(const NearestRequest& request, double radius_squared) {
    PairCollector<double> collector(request.queries.count);
    if (request.points.dim > FloatMetric::kMaxDim) {
        range_search_direct(request, radius_squared, collector);
        return collector.sorted();
    }
    CentreData data;
    find_centre(request, data);
    const FloatMetric metric = make_metric(request, data, nullptr);
    Search<FloatMetric> search(metric, {request.queries.count, request.points.count, 0, request.exclude, request.threads});
    search.run([&](int64_t) { return metric.limit_of(radius_squared); },
               [&](int64_t q, Candidates& found) {
                                  const DirectQuery query(request, q);
                   std::vector<std::pair<double, int64_t>> pairs;
                   for (const uint64_t entry : found.entries) {
                       const auto point = static_cast<int64_t>(entry & 0xffffffffu);
                       const int64_t points[4] = {point, point, point, point};
                       double distances[4];
                       query.measure(points, distances);
                       if (distances[0] <= radius_squared) pairs.emplace_back(distances[0], point);
                   }
                   collector.add(q, pairs);
               });
    return collector.sorted();
}

int64_t first_bad_row(const RowsView& rows, double largest, int threads) {
    constexpr int64_t kBytesPerTask = 1 << 20;
    const int64_t step = std::max<int64_t>(1, kBytesPerTask / std::max<int64_t>(1, rows.dim * 4));
    const int64_t tasks = (rows.count + step - 1) / step;
    const RowKernel& kernel = row_kernel();
    std::atomic<int64_t> first{rows.count};
    parallel_for(tasks, threads, [&](int64_t t) {
        for (int64_t i = t * step; i < std::min(rows.count, (t + 1) * step) && i < first.load(); ++i) {
            if (!kernel.is_bad(rows.row(i), rows.type, rows.dim, largest)) continue;
            for (int64_t seen = first.load(); i < seen && !first.compare_exchange_weak(seen, i);) {
            }
        }
    });
    return first.load() == rows.count ? -1 : first.load();
}

}  // namespace memfast
