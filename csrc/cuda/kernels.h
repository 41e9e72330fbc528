// The launches that memfast._C_cuda binds. Pointers are device addresses; nothing synchronises with the host.
#pragma once
#include <cstdint>

#include "operands.h"

namespace memfast {

// The grid of noise, normals and loss is one-dimensional, samples times blocks per sample: at most 2**31 - 1 blocks.
int64_t blocks_per_sample(int64_t elements, NumberType type);

void launch_philox(int64_t* out, const int64_t* counter, const int64_t* key, int64_t count, void* stream);
// Of the operands it reads the sample ids and the key.
void launch_standard_normal(const Operands& operands, int stream_tag, int64_t offset, float* out, void* stream);
void launch_draw_timesteps(const Operands& operands, const Draw& draw, void* stream);
// A draw without thresholds: the operands' timesteps are given.
void launch_noise(const Operands& operands, const Draw& draw, NumberType out_type, void* out, void* stream);
// partial[b, block] = sum of residual**2 (its size: samples times blocks_per_sample of the prediction's type); gradient
// (null: none) = float32(k_p * scale) * residual; then losses = sums / count over samples, or over everything with `mean`.
void launch_loss(const Operands& operands, const void* prediction, NumberType prediction_type, bool mean,
                 double gradient_scale, void* gradient, float* partial, float* losses, void* stream);

}  // namespace memfast
