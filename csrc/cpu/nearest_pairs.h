// Collects the pairs of a range search, one list per query, and joins them in order.
#pragma once
#include <algorithm>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "cpu/nearest.h"

namespace memfast {

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
