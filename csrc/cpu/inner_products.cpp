// The portable kernel, and how rows and pairs are cut into tasks. A row's products are summed by one task in one order, so
// the number of threads changes nothing.
#include <algorithm>
#include <numeric>
#include <vector>

#include "cpu/isa.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/inner_products_inc.h"

namespace memfast {
namespace {

struct PortableDoubles {
    static constexpr int W = 2, rows = 1, most = 3;
    typedef double D __attribute__((vector_size(16)));
    static D load(const float* p) { return D{double(p[0]), double(p[1])}; }
    static D load_double(const double* p) { return D{p[0], p[1]}; }
    static void store_double(double* p, D a) { p[0] = a[0], p[1] = a[1]; }
    static D multiply_add(D a, D b, D c) { return a * b + c; }
};

const ProductKernel& product_kernel() {
#if MEMFAST_X86
    if (current_isa() >= Isa::avx512) return kProductsAvx512;
    if (current_isa() >= Isa::avx2) return kProductsAvx2;
#endif
    return kProductsPortable;
}

// Elements: the longer, the sooner the machine reads ahead by itself; the doubles of a few second vectors fit the
// second-level cache together.
constexpr int64_t kChunk = 16384;

// What one call of the kernel multiplies: some products of one vector, or of each of kProductRows vectors that share them.
struct Step {
    int rows, count;
    int64_t first[kProductRows];
    int64_t second[kMostProducts];  // -1, only as the last: the vector itself
    int64_t sums;                       // the number of its first sum: vector by vector, product by product
};

// Pairs as steps, and the pair that each sum belongs to.
class Schedule {
  public:
    Schedule(const Pair* pairs, int64_t count, const ProductKernel& kernel) : pairs_(pairs) {
        std::vector<int64_t> order(count);
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
            const bool a_last = second(a) < 0, b_last = second(b) < 0;
            return pairs[a].first != pairs[b].first ? pairs[a].first < pairs[b].first : a_last < b_last;
        });
        std::vector<Run> runs;
        for (int64_t pair : order) {
            if (runs.empty() || pairs[runs.back()[0]].first != pairs[pair].first) runs.emplace_back();
            runs.back().push_back(pair);
        }
        for (size_t r = 0; r < runs.size();) {
            size_t rows = 1;
            while (rows < size_t(kernel.rows) && r + rows < runs.size() && alike(runs[r], runs[r + rows])) ++rows;
            if (rows != size_t(kernel.rows)) rows = 1;
            add(&runs[r], int(rows), rows > 1 ? kMostProductsOfRows : kernel.most);
            r += rows;
        }
    }

    std::vector<Step> steps;
    std::vector<int64_t> pair_of;  // [sums]

  private:
    using Run = std::vector<int64_t>;  // the pairs of one first vector, those with itself last

    int64_t second(int64_t pair) const { return pairs_[pair].second == pairs_[pair].first ? -1 : pairs_[pair].second; }

    bool alike(const Run& a, const Run& b) const {
        return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                          [&](int64_t one, int64_t other) { return second(one) == second(other); });
    }

    void add(const Run* runs, int rows, int most) {
        for (size_t begin = 0; begin < runs[0].size();) {
            Step step{rows, 0, {}, {}, int64_t(pair_of.size())};
            // A product with itself ends a step: the kernel takes one, and as the last.
            bool itself = false;
            for (; begin + step.count < runs[0].size() && step.count < most && !itself; ++step.count) {
                step.second[step.count] = second(runs[0][begin + step.count]);
                itself = step.second[step.count] < 0;
            }
            for (int r = 0; r < rows; ++r) {
                step.first[r] = pairs_[runs[r][0]].first;
                pair_of.insert(pair_of.end(), &runs[r][begin], &runs[r][begin] + step.count);
            }
            begin += step.count;
            steps.push_back(step);
        }
    }

    const Pair* pairs_;
};

class RowProducts {
  public:
    RowProducts(const Vectors* tensors, int64_t n, int64_t elements, const std::vector<Step>& steps,
                const ProductKernel& kernel)
        : tensors_(tensors), elements_(elements), kernel_(kernel), row_(n), slot_of_(n, -1), source_of_(n, nullptr) {
        int64_t slots = 0;
        for (const Step& step : steps)
            for (int k = 0; k < step.count; ++k)
                if (step.second[k] >= 0 && slot_of_[step.second[k]] < 0) slot_of_[step.second[k]] = slots++;
        slot_ = std::min(kChunk, padded(elements));
        doubles_.resize(slots * slot_);
        floats_.resize(kProductRows * slot_);
    }

    // The sums of the steps' products.
    const std::vector<double>& run(int64_t row, const Step* begin, const Step* end) {
        for (size_t k = 0; k < row_.size(); ++k)
            row_[k] = static_cast<const char*>(tensors_[k].data) + row / tensors_[k].repeat * tensors_[k].stride * size(k);
        const int64_t count = (end - 1)->sums + (end - 1)->rows * (end - 1)->count - begin->sums;
        lanes_.resize(count * kProductLanes);
        sums_.assign(count, 0.0);
        for (int64_t at = 0; at < elements_; at += kChunk) {
            const int64_t length = std::min(kChunk, elements_ - at);
            if (elements_ > kChunk) std::fill(source_of_.begin(), source_of_.end(), nullptr);
            for (const Step* step = begin; step != end; ++step) {
                const bool last = step + 1 == end;
                multiply(*step, at, length, begin->sums, last ? *begin : step[1], last ? at + length : at);
            }
        }
        if (elements_) kernel_.add_lanes(lanes_.data(), count, sums_.data());
        return sums_;
    }

  private:
    static int64_t padded(int64_t n) { return (n + kProductLanes - 1) / kProductLanes * kProductLanes; }

    // The elements from `at` to `at + n`; then comes the step `next`, from the element `next_at`.
    void multiply(const Step& step, int64_t at, int64_t n, int64_t first_sum, const Step& next, int64_t next_at) {
        ProductTask task;
        for (int k = 0; k < step.count; ++k) task.b[k] = step.second[k] < 0 ? nullptr : doubles(step.second[k], at, n);
        for (int r = 0; r < step.rows; ++r) {
            task.a[r] = floats(step.first[r], at, n, r);
            task.next[r] = start<const float*>(next.first[r < next.rows ? r : 0], next_at);
        }
        task.lanes = lanes_.data() + (step.sums - first_sum) * kProductLanes;
        task.more = at > 0;
        kernel_.multiply(task, step.rows, step.count, n);
    }

    int64_t size(int64_t tensor) const { return size_of(tensors_[tensor].type); }

    // The row's values from `at` on, whatever their type.
    template <class Pointer>
    Pointer start(int64_t tensor, int64_t at) const {
        return reinterpret_cast<Pointer>(row_[tensor] + at * size(tensor));
    }

    // The chunk as float32, in place where it is that already.
    const float* floats(int64_t tensor, int64_t at, int64_t n, int place) {
        const NumberType type = tensors_[tensor].type;
        if (type == NumberType::float32) return start<const float*>(tensor, at);
        float* widened = floats_.data() + place * slot_;
        kernels().widen[int(type)](start<const uint16_t*>(tensor, at), n, widened);
        return widened;
    }

    // The chunk as float64, padded by zeros to a multiple of the lanes; made once, a whole vector for all rows it serves.
    const double* doubles(int64_t tensor, int64_t at, int64_t n) {
        double* slot = doubles_.data() + slot_of_[tensor] * slot_;
        const void* from = start<const void*>(tensor, at);
        if (source_of_[tensor] == from) return slot;
        kernel_.to_double(floats(tensor, at, n, 0), n, slot);
        std::fill(slot + n, slot + padded(n), 0.0);
        source_of_[tensor] = from;
        return slot;
    }

    const Vectors* tensors_;
    int64_t elements_, slot_ = 0;
    const ProductKernel& kernel_;
    std::vector<const char*> row_;   // where each tensor's vector for this row lies
    std::vector<int64_t> slot_of_;       // a second vector's place among the doubles, -1 for one that is only ever first
    std::vector<const void*> source_of_;  // what those doubles were made from
    std::vector<double> doubles_, lanes_, sums_;
    std::vector<float> floats_;
};

}  // namespace

const ProductKernel kProductsPortable = product_kernel_of<PortableDoubles>();

void inner_products(const Vectors* tensors, int64_t n, int64_t rows, int64_t elements, const Pair* pairs, int64_t count,
                    double* out, int threads) {
    if (!rows || !count) return;
    const ProductKernel& kernel = product_kernel();
    const Schedule schedule(pairs, count, kernel);
    // Few rows: their steps are shared out as well. Short rows: several to a task.
    const int64_t all = int64_t(schedule.steps.size());
    const int64_t parts = std::min(all, std::max<int64_t>(1, 8 * threads / rows));
    const int64_t group = std::max<int64_t>(1, rows / std::max(1, 4 * threads));
    parallel_for((rows + group - 1) / group * parts, threads, [&](int64_t task) {
        RowProducts work(tensors, n, elements, schedule.steps, kernel);
        const int64_t part = task % parts, start = task / parts * group;
        const Step *begin = &schedule.steps[part * all / parts], *end = begin + ((part + 1) * all / parts - part * all / parts);
        for (int64_t row = start; row < std::min(rows, start + group); ++row) {
            const std::vector<double>& sums = work.run(row, begin, end);
            for (size_t p = 0; p < sums.size(); ++p) out[schedule.pair_of[begin->sums + p] * rows + row] = sums[p];
        }
    });
}

}  // namespace memfast
