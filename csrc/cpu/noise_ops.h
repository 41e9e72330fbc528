// The ops on whole tensors: values checked, tensors cut into blocks, blocks shared among threads. Which thread computes a
// block never changes a bit of the result.
#pragma once
#include <cstdint>

#include "cpu/number_types.h"

namespace memfast {

// What the caller must explain when it is not `fine`.
enum class Status : int { fine = 0, bad_value = 1 };

// Where the noise of a batch comes from, and with which coefficients.
struct Batch {
    int64_t samples, elements;     // B and D
    const float* table;            // [rows, 7]
    int64_t rows;
    const int64_t* timesteps;      // [B]
    const int64_t* sample_ids;     // [B]
    const int64_t* fixed_ids;      // [B] or null
    const int64_t* key;            // [2]
    int threads;
};

// Clean data: contiguous [B, D] of `type`; or, with `indices`, rows of a uint8 data set [items, D], rows of `flip_width`
// elements reversed where the sample's augmentation word says so (0: never).
struct Data {
    const void* address;
    Number type;
    const int64_t* indices = nullptr;
    int64_t items = 0, flip_width = 0;
};

// One draw per sample from thresholds [count], stratified where positions are given.
struct Draw {
    const int64_t* thresholds;
    int64_t count;
    const int64_t* positions;
    int64_t total;
};

void philox_words(const int64_t* counters, const int64_t* keys, int64_t n, int64_t* words);
Status standard_normal(const Batch& batch, int stream, int64_t offset, float* out);
Status draw_timesteps(const Batch& batch, const Draw& draw, int64_t* out);
Status mix_noise(const Batch& batch, const Data& data, Number out_type, void* out);
// losses: [B], or one number with `mean`. gradient: [B, D] of prediction_type, or null.
Status noise_loss(const Batch& batch, const Data& data, const void* prediction, Number prediction_type, bool mean,
                  double gradient_scale, void* gradient, float* losses);

}  // namespace memfast
