// Every point measured in float64: the fallback, and the definition of a distance (docs/exactness.md).
#include "cpu/nearest_direct.h"

#include <algorithm>
#include <limits>

#include "cpu/parallel.h"

namespace memfast {
namespace {

constexpr int64_t kQueriesPerTask = 16;
constexpr int64_t kBytesPerSlice = 1 << 18;  // points that stay in cache while the queries of a task pass over them

int64_t slice_of(const RowsView& points) {
    return std::max<int64_t>(4, kBytesPerSlice / std::max<int64_t>(1, points.dim * 4) / 4 * 4);
}

}  // namespace

DirectQuery::DirectQuery(const NearestRequest& request, int64_t query)
    : rows_(request.points), kernel_(row_kernel()), excluded_(request.exclude ? request.exclude[query] : -1),
      values_((request.queries.dim + 7) / 8 * 8) {
    kernel_.to_double(request.queries.row(query), request.queries.type, request.queries.dim, values_.data());
}

void DirectQuery::measure(const int64_t (&points)[4], double (&distances)[4]) const {
    const void* rows[4];
    for (int r = 0; r < 4; ++r) rows[r] = rows_.row(points[r]);
    kernel_.squared_distances(values_.data(), rows, rows_.type, rows_.dim, distances);
}

void ExactTop::offer(double distance, int64_t point) {
    const std::pair<double, int64_t> entry{distance, point};
    if (!(distance <= bound_)) return;
    if (heap_.size() < k_) {
        heap_.push_back(entry);
        std::push_heap(heap_.begin(), heap_.end());
    } else if (entry < heap_.front()) {
        std::pop_heap(heap_.begin(), heap_.end());
        heap_.back() = entry;
        std::push_heap(heap_.begin(), heap_.end());
    }
}

void ExactTop::merge(const ExactTop& other) {
    for (const auto& [distance, point] : other.heap_) offer(distance, point);
}

void ExactTop::write(double* distances, int64_t* indices) {
    std::sort_heap(heap_.begin(), heap_.end());
    for (size_t i = 0; i < k_; ++i) {
        distances[i] = i < heap_.size() ? heap_[i].first : std::numeric_limits<double>::infinity();
        indices[i] = i < heap_.size() ? heap_[i].second : -1;
    }
}

void nearest_direct(const NearestRequest& request, const std::vector<int64_t>& chosen, const double* bound,
                    double* distances, int64_t* indices) {
    const int64_t count = static_cast<int64_t>(chosen.size());
    if (count == 0) return;
    const int64_t groups = (count + kQueriesPerTask - 1) / kQueriesPerTask, slice = slice_of(request.points);
    const int64_t slices = (request.points.count + slice - 1) / slice;
    const int64_t splits = groups >= request.threads ? 1 : std::min<int64_t>(slices, request.threads);
    std::vector<ExactTop> tops;
    for (int64_t i = 0; i < count * splits; ++i) {
        tops.emplace_back(request.k, bound ? bound[chosen[i / splits]] : std::numeric_limits<double>::infinity());
    }
    parallel_for(groups * splits, request.threads, [&](int64_t task) {
        const int64_t group = task / splits, split = task % splits;
        const int64_t begin = group * kQueriesPerTask, end = std::min(count, begin + kQueriesPerTask);
        std::vector<DirectQuery> queries;
        for (int64_t i = begin; i < end; ++i) queries.emplace_back(request, chosen[i]);
        for (int64_t s = slices * split / splits; s < slices * (split + 1) / splits; ++s) {
            for (int64_t i = begin; i < end; ++i) {
                ExactTop& top = tops[i * splits + split];
                queries[i - begin].measure_range(s * slice, std::min(request.points.count, (s + 1) * slice),
                                                 [&](int64_t point, double distance) { top.offer(distance, point); });
            }
        }
    });
    for (int64_t i = 0; i < count; ++i) {
        for (int64_t s = 1; s < splits; ++s) tops[i * splits].merge(tops[i * splits + s]);
        tops[i * splits].write(distances + chosen[i] * request.k, indices + chosen[i] * request.k);
    }
}

void range_search_direct(const NearestRequest& request, double radius_squared, PairCollector<double>& collector) {
    const int64_t slice = slice_of(request.points);
    parallel_for(request.queries.count, request.threads, [&](int64_t q) {
        const DirectQuery query(request, q);
        for (int64_t first = 0; first < request.points.count; first += slice) {
            std::vector<std::pair<double, int64_t>> pairs;
            query.measure_range(first, std::min(request.points.count, first + slice), [&](int64_t point, double distance) {
                if (distance <= radius_squared) pairs.emplace_back(distance, point);
            });
            collector.add(q, pairs);
        }
    });
}

}  // namespace memfast
