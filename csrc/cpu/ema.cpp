// Moving averages: tensors cut into chunks, chunks handed to the threads.
#include "cpu/ema.h"

#include <algorithm>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace memfast {
namespace {

constexpr int64_t kChunk = 32768;  // elements of one task

struct Piece { int64_t tensor, first, n; };

}  // namespace

void ema_update(const EmaTensor* tensors, int64_t n, const float* weights, int count, int threads) {
    std::vector<Piece> pieces;
    for (int64_t tensor = 0; tensor < n; ++tensor)
        for (int64_t first = 0; first < tensors[tensor].size; first += kChunk)
            pieces.push_back({tensor, first, std::min(kChunk, tensors[tensor].size - first)});
    // Small pieces are handed out several at a time.
    const int64_t group = std::max<int64_t>(1, int64_t(pieces.size()) / (16 * std::max(1, threads)));
    parallel_for((int64_t(pieces.size()) + group - 1) / group, threads, [&](int64_t task) {
        std::vector<float*> at(count);
        const int64_t end = std::min<int64_t>(pieces.size(), (task + 1) * group);
        for (int64_t i = task * group; i < end; ++i) {
            const Piece& p = pieces[i];
            const EmaTensor& t = tensors[p.tensor];
            for (int k = 0; k < count; ++k) at[k] = t.averages[k] + p.first;
            kernels().ema[int(t.type)](static_cast<const char*>(t.parameter) + p.first * size_of(t.type), p.n, at.data(),
                                       weights, count);
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
