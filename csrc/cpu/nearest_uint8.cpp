// Pixels: squared distances are integers, |x|^2 + |y|^2 - 2xy without rounding (docs/exactness.md).
#include <limits>

#include "cpu/nearest_bytes.h"

namespace memfast {
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
