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
    static constexpr int W = 2, together = 2;
    typedef double D __attribute__((vector_size(16)));
    static D load(const float* p) { return D{double(p[0]), double(p[1])}; }
    static D load_double(const double* p) { return D{p[0], p[1]}; }
    static void store_double(double* p, D a) { p[0] = a[0], p[1] = a[1]; }
    static D multiply_add(D a, D b, D c) { return a * b + c; }
};

ProductKernel product_kernel() {
#if MEMFAST_X86
    if (current_isa() >= Isa::avx512) return kProductsAvx512;
    if (current_isa() >= Isa::avx2) return kProductsAvx2;
#endif
    return kProductsPortable;
}

// A few vectors of a chunk fit the second-level cache together.
constexpr int64_t kChunk = 8192;

// The pairs of one first vector.
struct Run { int64_t first, begin, end; };

class RowProducts {
  public:
    RowProducts(const Vectors* tensors, int64_t n, int64_t elements, const Pair* pairs, const std::vector<int64_t>& order)
        : tensors_(tensors), elements_(elements), pairs_(pairs), order_(order), kernel_(product_kernel()), own_(n, -1) {
        for (int64_t p : order) own_[pairs[p].second] = 0;
        int64_t slots = 0;
        for (int64_t& slot : own_)
            if (slot == 0) slot = slots++;
        slot_ = std::min(kChunk, (elements + kProductLanes - 1) / kProductLanes * kProductLanes);
        buffer_.resize((slots + 1) * slot_);
        ready_.resize(n);
    }

    void run(int64_t row, const Run* begin, const Run* end, double* out) {
        const int64_t first_pair = begin->begin, count = (end - 1)->end - first_pair;
        lanes_.assign(count * kProductLanes, 0.0);
        for (int64_t at = 0; at < elements_; at += kChunk) {
            const int64_t length = std::min(kChunk, elements_ - at);
            std::fill(ready_.begin(), ready_.end(), nullptr);
            for (const Run* r = begin; r != end; ++r) {
                const float* a = own_[r->first] >= 0 ? kept(r->first, row, at, length)
                                                     : widened(r->first, row, at, length, buffer_.data());
                for (int64_t p = r->begin; p < r->end; p += kProductsTogether) {
                    const float* b[kProductsTogether];
                    const int together = int(std::min<int64_t>(kProductsTogether, r->end - p));
                    for (int k = 0; k < together; ++k) b[k] = kept(pairs_[order_[p + k]].second, row, at, length);
                    kernel_(a, b, together, (length + kProductLanes - 1) / kProductLanes * kProductLanes,
                            lanes_.data() + (p - first_pair) * kProductLanes);
                }
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
    // The chunk as float32, padded by zeros to a multiple of the lanes; in place where it is that already.
    const float* widened(int64_t tensor, int64_t row, int64_t at, int64_t n, float* buffer) const {
        const Vectors& v = tensors_[tensor];
        const int64_t from = row * v.stride + at;
        if (v.type == Number::float32 && n % kProductLanes == 0) return static_cast<const float*>(v.data) + from;
        const int64_t size = v.type == Number::float32 ? 4 : 2;
        kernels().widen[int(v.type)](static_cast<const char*>(v.data) + from * size, n, buffer);
        std::fill(buffer + n, buffer + (n + kProductLanes - 1) / kProductLanes * kProductLanes, 0.0f);
        return buffer;
    }

    const float* kept(int64_t tensor, int64_t row, int64_t at, int64_t n) {
        if (!ready_[tensor]) ready_[tensor] = widened(tensor, row, at, n, buffer_.data() + (own_[tensor] + 1) * slot_);
        return ready_[tensor];
    }

    const Vectors* tensors_;
    int64_t elements_, slot_ = 0;
    const Pair* pairs_;
    const std::vector<int64_t>& order_;
    ProductKernel kernel_;
    std::vector<int64_t> own_;  // a second vector's place in the buffer, -1 for one that is only ever first
    std::vector<float> buffer_;
    std::vector<const float*> ready_;
    std::vector<double> lanes_;
};

}  // namespace

const ProductKernel kProductsPortable = products_kernel<PortableDoubles>;

void inner_products(const Vectors* tensors, int64_t n, int64_t rows, int64_t elements, const Pair* pairs, int64_t count,
                    double* out, int threads) {
    if (!rows || !count) return;
    std::vector<int64_t> order(count);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return pairs[a].first < pairs[b].first; });
    std::vector<Run> runs;
    for (int64_t p = 0; p < count; ++p) {
        const int64_t first = pairs[order[p]].first;
        if (runs.empty() || runs.back().first != first) runs.push_back({first, p, p});
        runs.back().end = p + 1;
    }
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
