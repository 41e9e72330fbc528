// Several exponential moving averages of many tensors, each parameter read once.
#pragma once
#include <cstdint>

#include "cpu/number_types.h"

namespace memfast {

// sizes [n]; parameters [n] of `type`; averages [n * count] float32, tensor by tensor; weights [count] = 1 - decay.
void ema_update(int64_t n, const int64_t* sizes, const void* const* parameters, const Number* types,
                float* const* averages, const float* weights, int count, int threads);
// out = factor * in, cut and shared as the ops are: the yardstick of memory bandwidth.
void scale_copy(const float* in, int64_t n, float factor, float* out, int threads);

}  // namespace memfast
