// Several exponential moving averages of many tensors, each parameter read once.
#pragma once
#include <cstdint>

#include "number_types.h"

namespace memfast {

struct EmaTensor {
    int64_t size;
    const void* parameter;
    NumberType type;
    float* const* averages;  // one for each weight
};

// average += weight * (parameter - average), for every weight (1 - decay) and its average.
void ema_update(const EmaTensor* tensors, int64_t n, const float* weights, int count, int threads);
// out = factor * in, cut and shared as the ops are: the benchmarks measure memory bandwidth with it.
void scale_copy(const float* in, int64_t n, float factor, float* out, int threads);

}  // namespace memfast
