#include "cpu/ema_ops.h"

#include <algorithm>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace memfast {
namespace {

constexpr int64_t kChunk = 32768;  // elements of one task

int64_t size_of(Number type) { return type == Number::float32 ? 4 : 2; }

struct Piece { int64_t tensor, first, n; };

}  // namespace

void ema_update(int64_t n, const int64_t* sizes, const void* const* parameters, const Number* types,
                float* const* averages, const float* weights, int count, int threads) {
    std::vector<Piece> pieces;
    for (int64_t tensor = 0; tensor < n; ++tensor)
        for (int64_t first = 0; first < sizes[tensor]; first += kChunk)
            pieces.push_back({tensor, first, std::min(kChunk, sizes[tensor] - first)});
    // Small pieces are handed out several at a time.
    const int64_t group = std::max<int64_t>(1, int64_t(pieces.size()) / (16 * std::max(1, threads)));
    parallel_for((int64_t(pieces.size()) + group - 1) / group, threads, [&](int64_t task) {
        std::vector<float*> at(count);
        const int64_t end = std::min<int64_t>(pieces.size(), (task + 1) * group);
        for (int64_t i = task * group; i < end; ++i) {
            const Piece& p = pieces[i];
            for (int k = 0; k < count; ++k) at[k] = averages[p.tensor * count + k] + p.first;
            const Number type = types[p.tensor];
            kernels().ema[int(type)](static_cast<const char*>(parameters[p.tensor]) + p.first * size_of(type), p.n,
                                     at.data(), weights, count);
        }
    });
}

void scale_copy(const float* in, int64_t n, float factor, float* out, int threads) {
    constexpr int64_t chunk = 16384;
    parallel_for((n + chunk - 1) / chunk, threads, [&](int64_t task) {
        const int64_t first = task * chunk;
        kernels().scale(in + first, std::min(chunk, n - first), factor, out + first);
    });
}

}  // namespace memfast
