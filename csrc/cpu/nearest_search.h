// The search over tiles that every kind of number shares: packs points into panels that stay in cache, multiplies, and
// keeps the few candidates of each query. Distances never reach memory.
//
// A Metric says what the bytes mean:
//   int64_t dim;
//   struct PointSide; struct QuerySide;                     what a panel and a query need besides their bytes
//   void pack_points(int64_t first, int count, void* packed, PointSide&) const;
//   void pack_queries(int64_t first, int count, void* packed, QuerySide*) const;
//   uint64_t keys(const int32_t* products, const PointSide&, const QuerySide&, uint32_t limit, uint32_t* keys) const;
//   static constexpr int64_t kMaxNarrow;                     dimensions up to which 32-bit sums lose nothing
//   uint64_t wide_key(int64_t product, const PointSide&, int column, const QuerySide&) const;   beyond them
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "cpu/aligned_buffer.h"
#include "cpu/nearest.h"
#include "cpu/nearest_tile.h"
#include "cpu/parallel.h"

namespace memfast {

// The candidates of one query: entries (key << shift | point), all with key < limit.
struct Candidates {
    std::vector<uint64_t> entries;
    uint64_t limit = 0;
    bool dropped = false;  // whether `limit` has ever turned away or evicted a point

    // Keeps the `keep` smallest entries and lowers the limit to the largest key that stays.
    void shrink(int64_t keep, int shift) {
        std::nth_element(entries.begin(), entries.begin() + (keep - 1), entries.end());
        entries.resize(keep);
        limit = entries.back() >> shift;
        dropped = true;
    }
};

struct SearchSize {
    int64_t queries, points;
    int64_t keep;             // candidates to keep per query; 0 keeps all below the limit
    const int64_t* exclude;   // one point per query to leave out, or null
    int threads;
};

template <class Metric>
class Search {
  public:
    Search(const Metric& metric, const SearchSize& size)
        : metric_(metric), size_(size), kernel_(metric.kernel), capacity_(size.keep ? size.keep + std::max<int64_t>(size.keep, 64) : kFlush),
          steps_(kernel_.steps(metric.dim)), shift_(metric.dim > Metric::kMaxNarrow ? bits(size.points) : 32) {}

    // first_limit(query) is the exclusive limit of keys to begin with; finish(query, candidates) receives the result,
    // in several parts and from several threads where all candidates are kept.
    template <class FirstLimit, class Finish>
    void run(const FirstLimit& first_limit, const Finish& finish) {
        const int64_t per_query = std::max<int64_t>(
            {1, capacity_ * 8, kernel_.query_bytes(metric_.dim) / kernel_.rows + 64});
        const int64_t block = std::clamp<int64_t>(kQueryBytes / per_query, kQueriesPerTask, size_.queries);
        for (int64_t first = 0; first < size_.queries; first += block) {
            const int64_t count = std::min(block, size_.queries - first);
            run_block(first, count, first_limit, finish);
        }
    }

    int shift() const { return shift_; }

  private:
    static constexpr int64_t kQueryBytes = 48 << 20;
    static constexpr int64_t kPanelBytes = 8 << 20;   // stays in a shared L3
    static constexpr int64_t kQueriesPerTask = 96;    // with one panel they stay in L2
    static constexpr int64_t kTaskBytes = 512 << 10;
    static constexpr int64_t kFlush = 1024;           // candidates of a query that wait, where all are kept
    static constexpr int64_t kWideDims = 65536;       // 65536 * 255 * 128 < 2**31

    static int bits(int64_t n) {
        int b = 1;
        while ((int64_t{1} << b) < n) ++b;
        return b;
    }

    struct Panel {
        int64_t first;
        int count;
    };

    template <class FirstLimit, class Finish>
    void run_block(int64_t first, int64_t count, const FirstLimit& first_limit, const Finish& finish) {
        const int rows = kernel_.rows, columns = kernel_.columns;
        const int64_t groups = (count + rows - 1) / rows, query_bytes = kernel_.query_bytes(metric_.dim);
        AlignedBuffer queries(groups * query_bytes);
        std::vector<typename Metric::QuerySide> query_sides(groups * rows);
        parallel_for(groups, size_.threads, [&](int64_t g) {
            const int here = static_cast<int>(std::min<int64_t>(rows, count - g * rows));
            metric_.pack_queries(first + g * rows, here, queries.data() + g * query_bytes, &query_sides[g * rows]);
        });

        const int64_t panels = (size_.points + columns - 1) / columns, point_bytes = kernel_.point_bytes(metric_.dim);
        const int64_t held = std::clamp<int64_t>(kPanelBytes / point_bytes, std::min<int64_t>(size_.threads, panels), panels);
        AlignedBuffer points(held * point_bytes);
        std::unique_ptr<typename Metric::PointSide[]> point_sides(new typename Metric::PointSide[held]);

        const int64_t per_task = std::clamp<int64_t>(kTaskBytes / query_bytes, 1, kQueriesPerTask / rows);
        // A multiple of the threads, in parts as equal as can be: a lone last task would leave the others waiting.
        const int64_t least = (groups + per_task - 1) / per_task, threads = std::max(1, size_.threads);
        const int64_t chunks = std::min(groups, (least + threads - 1) / threads * threads);
        const int64_t wanted = int64_t{4} * size_.threads;
        const int64_t splits = size_.threads < 2 || chunks >= wanted ? 1 : std::min(held, (wanted + chunks - 1) / chunks);
        std::vector<Candidates> candidates(count * splits);
        parallel_for(chunks, size_.threads, [&](int64_t c) {
            const int64_t begin = groups * c / chunks * rows, end = std::min(count, groups * (c + 1) / chunks * rows);
            for (int64_t i = begin * splits; i < end * splits; ++i) {
                candidates[i].limit = first_limit(first + i / splits);
                if (size_.keep) candidates[i].entries.reserve(capacity_);
            }
        });

        for (int64_t start = 0; start < panels; start += held) {
            const int64_t now = std::min(held, panels - start);
            parallel_for(now, size_.threads, [&](int64_t p) {
                const Panel panel = panel_at(start + p);
                metric_.pack_points(panel.first, panel.count, points.data() + p * point_bytes, point_sides[p]);
            });
            parallel_for(chunks * splits, size_.threads, [&](int64_t task) {
                const int64_t chunk = task / splits, split = task % splits;
                const int64_t g_begin = groups * chunk / chunks, g_end = groups * (chunk + 1) / chunks;
                for (int64_t p = now * split / splits; p < now * (split + 1) / splits; ++p) {
                    for (int64_t g = g_begin; g < g_end; ++g) {
                        const int here = static_cast<int>(std::min<int64_t>(rows, count - g * rows));
                        visit(queries.data() + g * query_bytes, here, &query_sides[g * rows], first + g * rows,
                              points.data() + p * point_bytes, point_sides[p], panel_at(start + p),
                              &candidates[g * rows * splits + split], splits, finish);
                    }
                }
            });
        }

        parallel_for(count, size_.threads, [&](int64_t i) {
            Candidates& all = candidates[i * splits];
            for (int64_t s = 1; s < splits; ++s) {
                Candidates& other = candidates[i * splits + s];
                all.entries.insert(all.entries.end(), other.entries.begin(), other.entries.end());
                all.limit = std::min(all.limit, other.limit);
                all.dropped |= other.dropped;
                std::vector<uint64_t>().swap(other.entries);
            }
            finish(first + i, all);
            std::vector<uint64_t>().swap(all.entries);
        });
    }

    Panel panel_at(int64_t p) const {
        const int64_t first = p * kernel_.columns;
        return {first, static_cast<int>(std::min<int64_t>(kernel_.columns, size_.points - first))};
    }

    template <class Finish>
    void visit(const char* queries, int rows, const typename Metric::QuerySide* query_sides, int64_t first_query,
               const char* points, const typename Metric::PointSide& side, const Panel& panel, Candidates* candidates,
               int64_t stride, const Finish& finish) const {
        if (shift_ != 32) {
            return visit_wide(queries, rows, query_sides, first_query, points, side, panel, candidates, stride, finish);
        }
        alignas(64) int32_t products[TileKernel::kMaxRows * TileKernel::kMaxColumns];
        alignas(64) uint32_t keys[TileKernel::kMaxColumns];
        const uint64_t there = panel.count == 64 ? ~uint64_t{0} : (uint64_t{1} << panel.count) - 1;
        kernel_.multiply(queries, rows, points, steps_, products);
        for (int i = 0; i < rows; ++i) {
            Candidates& mine = candidates[i * stride];
            const auto limit = static_cast<uint32_t>(std::min<uint64_t>(mine.limit, 0xffffffffu));
            uint64_t mask =
                metric_.keys(products + i * kernel_.columns, side, query_sides[i], limit, keys) & there;
            for (; mask; mask &= mask - 1) {
                const int j = __builtin_ctzll(mask);
                offer(mine, keys[j], panel.first + j, first_query + i, finish);
            }
        }
    }

    // Sums beyond 32 bits: the dimensions in slices, their sums in 64 bits.
    template <class Finish>
    void visit_wide(const char* queries, int rows, const typename Metric::QuerySide* query_sides, int64_t first_query,
                    const char* points, const typename Metric::PointSide& side, const Panel& panel,
                    Candidates* candidates, int64_t stride, const Finish& finish) const {
        alignas(64) int32_t products[TileKernel::kMaxRows * TileKernel::kMaxColumns];
        int64_t totals[TileKernel::kMaxRows * TileKernel::kMaxColumns] = {};
        const int64_t slice = kWideDims / kernel_.group;
        const int64_t query_step = kernel_.rows * kernel_.group * kernel_.bytes;
        const int64_t point_step = kernel_.columns * kernel_.group * kernel_.bytes;
        for (int64_t s = 0; s < steps_; s += slice) {
            kernel_.multiply(queries + s * query_step, rows, points + s * point_step, std::min(slice, steps_ - s), products);
            for (int i = 0; i < rows * kernel_.columns; ++i) totals[i] += products[i];
        }
        for (int i = 0; i < rows; ++i) {
            Candidates& mine = candidates[i * stride];
            for (int j = 0; j < panel.count; ++j) {
                const uint64_t key = metric_.wide_key(totals[i * kernel_.columns + j], side, j, query_sides[i]);
                offer(mine, key, panel.first + j, first_query + i, finish);
            }
        }
    }

    template <class Finish>
    void offer(Candidates& mine, uint64_t key, int64_t point, int64_t query, const Finish& finish) const {
        if (key >= mine.limit || (size_.exclude && size_.exclude[query] == point)) return;
        mine.entries.push_back(key << shift_ | static_cast<uint64_t>(point));
        if (static_cast<int64_t>(mine.entries.size()) < capacity_) return;
        if (size_.keep) {
            mine.shrink(size_.keep, shift_);
        } else {
            finish(query, mine);
            mine.entries.clear();
        }
    }

    const Metric& metric_;
    const SearchSize size_;
    const TileKernel& kernel_;
    const int64_t capacity_, steps_;
    const int shift_;
};

// Collects the pairs of a range search, one list per query, and joins them in order.
template <class Distance>
class PairCollector {
  public:
    explicit PairCollector(int64_t queries) : lists_(queries) {}

    // May be called from several threads.
    void add(int64_t query, const std::vector<std::pair<Distance, int64_t>>& pairs) {
        if (pairs.empty()) return;
        const std::lock_guard<std::mutex> lock(mutex_);
        lists_[query].insert(lists_[query].end(), pairs.begin(), pairs.end());
    }

    Pairs<Distance> sorted() {
        Pairs<Distance> pairs;
        for (size_t q = 0; q < lists_.size(); ++q) {
            std::sort(lists_[q].begin(), lists_[q].end());
            for (const auto& [distance, index] : lists_[q]) {
                pairs.query.push_back(static_cast<int64_t>(q));
                pairs.index.push_back(index);
                pairs.distance.push_back(distance);
            }
            std::vector<std::pair<Distance, int64_t>>().swap(lists_[q]);
        }
        return pairs;
    }

  private:
    std::mutex mutex_;
    std::vector<std::vector<std::pair<Distance, int64_t>>> lists_;
};

}  // namespace memfast
