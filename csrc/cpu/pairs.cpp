#include "cpu/pairs.h"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "cpu/isa.h"
#include "cpu/nearest_bytes.h"
#include "cpu/nearest_direct.h"
#include "cpu/pairs_inc.h"
#include "cpu/parallel.h"

namespace memfast {
namespace {

constexpr int64_t kPairsPerTask = 4096;
constexpr int64_t kLocks = 64;

ByteDistance byte_distance_kernel() {
#if MEMFAST_X86
    if (current_isa() == Isa::avx512) return kByteDistanceAvx512;
    if (current_isa() == Isa::avx2) return kByteDistanceAvx2;
#endif
    return kByteDistancePortable;
}

// Calls visit(query, first pair, one past the last) for runs of a query's pairs, on all threads.
template <class Visit>
void for_runs(const NearestRequest& request, const PairList& pairs, const Visit& visit) {
    struct Run {
        int64_t query, begin, end;
    };
    std::vector<Run> runs;
    for (int64_t q = 0; q < request.queries.count; ++q) {
        const int64_t end = pairs.end(q, request.points.count);
        for (int64_t begin = pairs.begin(q, request.points.count); begin < end; begin += kPairsPerTask)
            runs.push_back({q, begin, std::min(end, begin + kPairsPerTask)});
    }
    parallel_for(static_cast<int64_t>(runs.size()), request.threads,
                 [&](int64_t task) { visit(runs[task].query, runs[task].begin, runs[task].end); });
}

}  // namespace

const ByteDistance kByteDistancePortable = byte_distance;

Pairs<int64_t> candidates_uint8(const NearestRequest& request, const int64_t* bound) {
    const ByteMetric metric{tile_kernel(), request.queries, request.points, request.queries.dim};
    Search<ByteMetric> search(metric, {request.queries.count, request.points.count, 0, request.exclude, request.threads});
    const int shift = search.shift();
    const uint64_t index_mask = (uint64_t{1} << shift) - 1;
    // Candidates come in parts, and those of one query from several threads.
    std::vector<std::vector<uint64_t>> lists(request.queries.count);
    std::vector<std::mutex> locks(kLocks);
    search.run([&](int64_t q) { return limit_of(bound[q]); },
               [&](int64_t q, Candidates& found) {
                   const std::lock_guard<std::mutex> lock(locks[q % kLocks]);
                   lists[q].insert(lists[q].end(), found.entries.begin(), found.entries.end());
               });
    std::vector<int64_t> starts(lists.size() + 1, 0);
    for (size_t q = 0; q < lists.size(); ++q) starts[q + 1] = starts[q] + static_cast<int64_t>(lists[q].size());
    Pairs<int64_t> pairs;
    pairs.query.resize(starts.back());
    pairs.index.resize(starts.back());
    pairs.distance.resize(starts.back());
    const auto by_row = [&](uint64_t a, uint64_t b) { return (a & index_mask) < (b & index_mask); };
    parallel_for(static_cast<int64_t>(lists.size()), request.threads, [&](int64_t q) {
        std::vector<uint64_t>& entries = lists[q];
        if (!std::is_sorted(entries.begin(), entries.end(), by_row)) std::sort(entries.begin(), entries.end(), by_row);
        int64_t at = starts[q];
        for (const uint64_t entry : entries) {
            pairs.query[at] = q;
            pairs.index[at] = static_cast<int64_t>(entry & index_mask);
            pairs.distance[at++] = static_cast<int64_t>(entry >> shift);
        }
        std::vector<uint64_t>().swap(entries);
    });
    return pairs;
}

void pair_distances_uint8(const NearestRequest& request, const PairList& pairs, int64_t* distances) {
    const ByteDistance distance = byte_distance_kernel();
    for_runs(request, pairs, [&](int64_t q, int64_t begin, int64_t end) {
        const auto* query = static_cast<const uint8_t*>(request.queries.row(q));
        const int64_t first = pairs.begin(q, request.points.count);
        for (int64_t i = begin; i < end; ++i) {
            const auto* point = static_cast<const uint8_t*>(request.points.row(pairs.point(i, first)));
            distances[i] = distance(query, point, request.queries.dim);
        }
    });
}

void pair_distances_float(const NearestRequest& request, const PairList& pairs, double* distances) {
    for_runs(request, pairs, [&](int64_t q, int64_t begin, int64_t end) {
        const DirectQuery query(request, q);
        const int64_t first = pairs.begin(q, request.points.count);
        for (int64_t i = begin; i < end; i += 4) {
            int64_t points[4];
            for (int64_t r = 0; r < 4; ++r) points[r] = pairs.point(std::min(end - 1, i + r), first);
            double found[4];
            query.measure(points, found);
            for (int64_t r = 0; r < 4 && i + r < end; ++r) distances[i + r] = found[r];
        }
    });
}

}  // namespace memfast
