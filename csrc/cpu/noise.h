// Words, normals, timestep draws, noise and loss of whole tensors. memfast/ops/contract.py defines each result.
#pragma once
#include <cstdint>

#include "operands.h"

namespace memfast {

// `bad_value`: an id, a row number or a coefficient is out of its range; the caller finds out which and says so.
enum class Status : int { fine = 0, bad_value = 1 };

void philox_words(const int64_t* counters, const int64_t* keys, int64_t n, int64_t* words);
// out: [samples, elements], from element `offset` of each sample on. Of the operands it reads the sample ids and the key.
Status standard_normal(const Operands& operands, int stream, int64_t offset, float* out, int threads);
// Of the operands it reads the sample ids and the key.
Status draw_timesteps(const Operands& operands, const Draw& draw);
Status noise(const Operands& operands, NumberType out_type, void* out, int threads);
// losses: [B], or one number with `mean`. gradient: [B, D] of prediction_type, or null.
Status loss(const Operands& operands, const void* prediction, NumberType prediction_type, bool mean, double gradient_scale,
            void* gradient, float* losses, int threads);

}  // namespace memfast
