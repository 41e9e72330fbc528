// Floats: screen by lower bounds, measure the survivors in float64, certify, and measure every point where the
// certificate fails.
#include <algorithm>
#include <atomic>
#include <limits>
#include <utility>

#include "cpu/nearest.h"
#include "cpu/nearest_direct.h"
#include "cpu/nearest_float_metric.h"
#include "cpu/nearest_pairs.h"

namespace memfast {
namespace {

// Candidates kept for k neighbours: enough that a byte grid usually certifies.
constexpr int64_t kKeepFactor = 4, kKeepExtra = 192;
// The second try keeps this many times more.
constexpr int64_t kWiden = 8;
constexpr int64_t kSampleNumbers = 1 << 22, kMinSample = 64, kMaxSample = 4096;

struct CentreData {
    std::vector<double> mean;
    std::vector<float> mean_float;
    int exponent;
    Centre centre;
};

// The mean of evenly spaced rows, and the power of two that brings their median norm to about one.
void find_centre(const NearestRequest& request, CentreData& out) {
    const PlainFloats plain;
    const RowsView& points = request.points;
    const int64_t dim = points.dim;
    const int64_t sample = std::min(points.count, std::clamp(kSampleNumbers / dim, kMinSample, kMaxSample));
    const bool in_double = points.kind == NumberKind::float64 || request.queries.kind == NumberKind::float64;
    out.mean.assign(dim, 0);
    std::vector<double> row(dim);
    const RowKernel& kernel = row_kernel();
    const auto each = [&](const auto& function) {
        for (int64_t i = 0; i < sample; ++i) {
            kernel.to_double(points.row(i * points.count / sample), points.kind, dim, row.data());
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
                           const PlainFloats plain;
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

Pairs<double> within_float(const NearestRequest& request, double radius_squared) {
    PairCollector<double> collector(request.queries.count);
    if (request.points.dim > FloatMetric::kMaxDim) {
        within_direct(request, radius_squared, collector);
        return collector.sorted();
    }
    CentreData data;
    find_centre(request, data);
    const FloatMetric metric = make_metric(request, data, nullptr);
    Search<FloatMetric> search(metric, {request.queries.count, request.points.count, 0, request.exclude, request.threads});
    search.run([&](int64_t) { return metric.limit_of(radius_squared); },
               [&](int64_t q, Candidates& found) {
                   const PlainFloats plain;
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
            if (!kernel.is_bad(rows.row(i), rows.kind, rows.dim, largest)) continue;
            for (int64_t seen = first.load(); i < seen && !first.compare_exchange_weak(seen, i);) {
            }
        }
    });
    return first.load() == rows.count ? -1 : first.load();
}

}  // namespace memfast
