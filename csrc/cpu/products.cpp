// The portable kernel, and how rows and pairs are cut into tasks. A row's products are summed by one task in one order, so
// the number of threads changes nothing.
#include <algorithm>
#include <numeric>
#include <vector>

#include "cpu/isa.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/products_inc.h"

namespace memfast {
namespace {

struct PortableDoubles {
    static constexpr int W = 2, rows = 1;
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

// The pairs of one first vector, that with itself last. `like_next`: the next run's second vectors are the same.
struct Run { int64_t first, begin, end; bool like_next; };

bool alike(const Run& a, const Run& b, const Pair* pairs, const std::vector<int64_t>& order) {
    if (a.end - a.begin != b.end - b.begin) return false;
    for (int64_t k = 0; k < a.end - a.begin; ++k) {
        const int64_t one = pairs[order[a.begin + k]].second, other = pairs[order[b.begin + k]].second;
        const bool itself = one == a.first;
        if (itself != (other == b.first) || (!itself && one != other)) return false;
    }
    return true;
}

class RowProducts {
  public:
    RowProducts(const Vectors* tensors, int64_t n, int64_t elements, const Pair* pairs, const std::vector<int64_t>& order)
        : tensors_(tensors), elements_(elements), pairs_(pairs), order_(order), kernel_(product_kernel()), own_(n, -1) {
        for (int64_t p : order)
            if (pairs[p].first != pairs[p].second) own_[pairs[p].second] = 0;
        int64_t slots = 0;
        for (int64_t& slot : own_)
            if (slot == 0) slot = slots++;
        slot_ = std::min(kChunk, padded(elements));
        doubles_.resize(slots * slot_);
        floats_.resize(kProductRows * slot_);
        ready_.resize(n);
    }

    void run(int64_t row, const Run* begin, const Run* end, double* out) {
        const int64_t first_pair = begin->begin, count = (end - 1)->end - first_pair;
        lanes_.assign(count * kProductLanes, 0.0);
        for (int64_t at = 0; at < elements_; at += kChunk) {
            const int64_t length = std::min(kChunk, elements_ - at);
            std::fill(ready_.begin(), ready_.end(), false);
            for (const Run* r = begin; r != end;) {
                int together = 1;
                while (together < kernel_.rows && r + together != end && r[together - 1].like_next) ++together;
                if (together != kernel_.rows) together = 1;
                const Run* next = r + together;
                const Ahead ahead = next != end ? Ahead{next, end, at} : Ahead{begin, end, at + length};
                multiply(r, together, row, at, length, first_pair, ahead);
                r = next;
            }
        }
        for (int64_t p = 0; p < count; ++p) {
            double* lane = lanes_.data() + p * kProductLanes;
            for (int width = kProductLanes / 2; width; width /= 2)
                for (int j = 0; j < width; ++j) lane[j] += lane[j + width];
            out[order_[first_pair + p]] = lane[0];
        }
    }

  private:
    static int64_t padded(int64_t n) { return (n + kProductLanes - 1) / kProductLanes * kProductLanes; }

    // What is read afterwards: the runs from `run` on, from the element `at`.
    struct Ahead {
        const Run *run, *end;
        int64_t at;
    };

    // The runs r to r + rows - 1.
    void multiply(const Run* r, int rows, int64_t row, int64_t at, int64_t n, int64_t first_pair, const Ahead& ahead) {
        const double* b[kProductsTogether];
        float last[kProductRows][kProductLanes] = {};
        const int64_t whole = n / kProductLanes * kProductLanes, count = r->end - r->begin;
        ProductTask task{{}, {}, b, nullptr, count * kProductLanes};
        for (int64_t p = 0, together = 0; p < count; p += together) {
            // A product with itself ends a group: the kernel takes one, and as the last.
            bool itself = false;
            for (together = 0; together < kProductsTogether && p + together < count && !itself; ++together) {
                const int64_t second = pairs_[order_[r->begin + p + together]].second;
                itself = second == r->first;
                b[together] = itself ? nullptr : kept(second, row, at, n);
            }
            for (int k = 0; k < rows; ++k) {
                task.a[k] = floats(r[k].first, row, at, n, k);
                const Run* next = ahead.run + k < ahead.end ? ahead.run + k : ahead.run;
                task.next[k] = p + together < count ? task.a[k] : start(next->first, row, ahead.at);
            }
            task.lanes = lanes_.data() + (r->begin + p - first_pair) * kProductLanes;
            if (whole) kernel_.multiply(task, rows, int(together), whole);
            if (whole == n) continue;
            for (int k = 0; k < rows; ++k) {
                std::copy(task.a[k] + whole, task.a[k] + n, last[k]);
                task.a[k] = last[k];
            }
            for (int k = 0; k < together; ++k)
                if (b[k]) b[k] += whole;
            kernel_.multiply(task, rows, int(together), kProductLanes);
        }
    }

    // Where a tensor's values lie, whatever their type: for reading ahead.
    const float* start(int64_t tensor, int64_t row, int64_t at) const {
        const Vectors& v = tensors_[tensor];
        const int64_t bytes = (row * v.stride + at) * (v.type == Number::float32 ? 4 : 2);
        return reinterpret_cast<const float*>(static_cast<const char*>(v.data) + bytes);
    }

    // The chunk as float32, in place where it is that already.
    const float* floats(int64_t tensor, int64_t row, int64_t at, int64_t n, int place) {
        const Vectors& v = tensors_[tensor];
        const int64_t from = row * v.stride + at;
        if (v.type == Number::float32) return static_cast<const float*>(v.data) + from;
        float* widened = floats_.data() + place * slot_;
        kernels().widen[int(v.type)](static_cast<const uint16_t*>(v.data) + from, n, widened);
        return widened;
    }

    // The chunk as float64, padded by zeros to a multiple of the lanes; made once.
    const double* kept(int64_t tensor, int64_t row, int64_t at, int64_t n) {
        double* slot = doubles_.data() + own_[tensor] * slot_;
        if (ready_[tensor]) return slot;
        kernel_.to_double(floats(tensor, row, at, n, 0), n, slot);
        std::fill(slot + n, slot + padded(n), 0.0);
        ready_[tensor] = true;
        return slot;
    }

    const Vectors* tensors_;
    int64_t elements_, slot_ = 0;
    const Pair* pairs_;
    const std::vector<int64_t>& order_;
    const ProductKernel& kernel_;
    std::vector<int64_t> own_;  // a second vector's place among the doubles, -1 for one that is only ever first
    std::vector<double> doubles_, lanes_;
    std::vector<float> floats_;
    std::vector<char> ready_;
};

}  // namespace

const ProductKernel kProductsPortable{products_kernel<PortableDoubles>, to_double_kernel<PortableDoubles>, PortableDoubles::rows};

void inner_products(const Vectors* tensors, int64_t n, int64_t rows, int64_t elements, const Pair* pairs, int64_t count,
                    double* out, int threads) {
    if (!rows || !count) return;
    std::vector<int64_t> order(count);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
        const bool a_last = pairs[a].first == pairs[a].second, b_last = pairs[b].first == pairs[b].second;
        return pairs[a].first != pairs[b].first ? pairs[a].first < pairs[b].first : a_last < b_last;
    });
    std::vector<Run> runs;
    for (int64_t p = 0; p < count; ++p) {
        const int64_t first = pairs[order[p]].first;
        if (runs.empty() || runs.back().first != first) runs.push_back({first, p, p, false});
        runs.back().end = p + 1;
    }
    for (size_t r = 0; r + 1 < runs.size(); ++r) runs[r].like_next = alike(runs[r], runs[r + 1], pairs, order);
    // Few rows: their runs are shared out as well. Short rows: several to a task.
    const int64_t all = int64_t(runs.size());
    const int64_t parts = std::min(all, std::max<int64_t>(1, 8 * threads / rows));
    const int64_t group = std::max<int64_t>(1, rows / std::max(1, 4 * threads));
    parallel_for((rows + group - 1) / group * parts, threads, [&](int64_t task) {
        RowProducts work(tensors, n, elements, pairs, order);
        const int64_t part = task % parts, start = task / parts * group;
        const Run *begin = runs.data() + part * all / parts, *end = runs.data() + (part + 1) * all / parts;
        for (int64_t row = start; row < std::min(rows, start + group); ++row) work.run(row, begin, end, out + row * count);
    });
}

}  // namespace memfast
