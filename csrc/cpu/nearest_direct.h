// Squared distances in float64, measured directly; the last word on float rows.
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

#include "cpu/nearest.h"
#include "cpu/nearest_rows.h"
#include "cpu/nearest_search.h"

namespace memfast {

// One query, ready to be measured against points.
class DirectQuery {
  public:
    DirectQuery(const NearestRequest& request, int64_t query);
    void measure(const int64_t (&points)[4], double (&distances)[4]) const;
    // Calls visit(point, distance) for the points of [begin, end), the excluded one left out.
    template <class Visit>
    void measure_range(int64_t begin, int64_t end, const Visit& visit) const {
        for (int64_t p = begin; p < end; p += 4) {
            int64_t points[4];
            for (int r = 0; r < 4; ++r) points[r] = p + r < end ? p + r : end - 1;
            double distances[4];
            measure(points, distances);
            for (int r = 0; r < 4 && p + r < end; ++r) {
                if (p + r != excluded_) visit(p + r, distances[r]);
            }
        }
    }

  private:
    const RowsView& rows_;
    const RowKernel& kernel_;
    const int64_t excluded_;
    std::vector<double> values_;
};

// The k nearest seen so far, by (distance, index), among those up to a bound.
class ExactTop {
  public:
    ExactTop(int64_t k, double bound) : k_(static_cast<size_t>(k)), bound_(bound) {}
    void offer(double distance, int64_t point);
    // Nothing farther than this can still enter.
    double worst() const { return heap_.size() == k_ ? heap_.front().first : bound_; }
    void merge(const ExactTop& other);
    void write(double* distances, int64_t* indices);

  private:
    size_t k_;
    double bound_;
    std::vector<std::pair<double, int64_t>> heap_;
};

// Every point for each of the `chosen` queries; writes their rows of the results.
void nearest_direct(const NearestRequest& request, const std::vector<int64_t>& chosen, const double* bound,
                    double* distances, int64_t* indices);
void range_search_direct(const NearestRequest& request, double radius_squared, PairCollector<double>& collector);

}  // namespace memfast
