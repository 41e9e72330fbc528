// The inner kernels of noise, loss and averages: one table of functions per instruction set, chosen at run time. Each works
// on one block of one sample on one thread; samples.h cuts tensors into blocks.
#pragma once
#include <cstdint>

#include "cpu/addresses.h"
#include "number_types.h"

namespace memfast {

// c_x * x + c_f * fixed + c_n * noise, float32, left to right.
struct Coefficients {
    float x, f, n;
};

constexpr int kLanes = 32;  // partial sums per block: element i of a block goes to lane i % 32

struct Kernels {
    // n counters int64 [n, 4] under keys int64 [n, 2] to words int64 [n, 4].
    void (*philox)(const int64_t* counters, const int64_t* keys, int64_t n, int64_t* words);
    // Elements 4 * quad to 4 * quad + n of one sample.
    void (*normals)(const Stream& s, uint64_t quad, int64_t n, float* out);
    // Elements 0 to 4 * quads of each of `samples` samples, [samples, 4 * quads]; for samples shorter than a vector.
    void (*short_normals)(const Stream* streams, int64_t samples, int64_t quads, float* out);
    // x_in of a block. x is float32, or of the output's type. fixed: normals of the block, or null.
    void (*mix[kFloatTypes][2])(const Stream& s, uint64_t quad, int64_t n, const void* x, const float* fixed, Coefficients c, void* out);
    // Residuals k_p * prediction - mix of a block: lanes[32] += their squares; gradient = scale * residual where not
    // null. Indices: type of prediction and gradient; x float32 (0) or of the prediction's type (1).
    void (*residual[kFloatTypes][2])(const Stream& s, uint64_t quad, int64_t n, const void* prediction, const void* x,
                           const float* fixed, Coefficients c, float k_p, float scale, void* gradient, double* lanes);
    // Any type to float32; bytes to [-1, 1].
    void (*widen[kReadableTypes])(const void* from, int64_t n, float* to);
    void (*narrow[kFloatTypes])(const float* from, int64_t n, void* to);
    // average += weight * (parameter - average), for `count` averages of one block.
    void (*ema[kFloatTypes])(const void* parameter, int64_t n, float* const* averages, const float* weights, int count);
    // out = scale * in: the plain loop that the benchmarks measure memory bandwidth with.
    void (*scale)(const float* in, int64_t n, float factor, float* out);
};

const Kernels& kernels_portable();
const Kernels& kernels_avx2();
const Kernels& kernels_avx512();
const Kernels& kernels();  // of current_isa()

}  // namespace memfast
