// Grids and error checks: a block serves one stretch of one sample, a thread one 16-byte vector.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "cuda/kernels.h"

namespace memfast {

constexpr int kThreads = 128;
constexpr int kWarp = 32;

struct Grid {
    unsigned chunks;  // blocks per sample
    int threads;
};

inline Grid grid_of(int64_t numel, int per_thread) {
    const int64_t vectors = (numel + per_thread - 1) / per_thread;
    const int threads = static_cast<int>(std::min<int64_t>(kThreads, (vectors + kWarp - 1) / kWarp * kWarp));
    return {static_cast<unsigned>((vectors + threads - 1) / threads), threads};
}

inline bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

inline void check_launch() {
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA launch failed: ") + cudaGetErrorString(error));
}

inline unsigned blocks(int64_t count) {
    if (count > 0x7fffffff) throw std::runtime_error("too many blocks for one launch: use a smaller batch");
    return static_cast<unsigned>(count);
}

}  // namespace memfast
