// What the noise and loss kernels read, on the CPU and on CUDA alike: plain structs of addresses and sizes.
// memfast/ops/operands.py has the same two values with tensors in them.
#pragma once
#include <cstdint>

#include "number_types.h"

namespace memfast {

// Uses of randomness; two streams never share an address. STREAMS in memfast/ops/addresses.py names them all.
enum StreamTag : uint32_t { kNoise = 0, kTimestep = 1, kFixed = 2, kAugmentation = 3 };

constexpr int kTableColumns = 7;  // a_x, a_f, a_n, k_p, k_x, k_f, k_n

struct Operands {
    int64_t samples, elements;  // B and D
    // Clean data: contiguous [B, D] of x0_type. With `indices`, a uint8 data set [items, D] whose row indices[b] is
    // sample b; flip_width > 0 then reverses every flip_width elements where the sample's augmentation word is odd.
    const void* x0;
    NumberType x0_type;
    const float* table;  // [rows, 7]
    int64_t rows;
    const int64_t* timesteps;   // [B], rows of the table
    const int64_t* sample_ids;  // [B]
    const int64_t* key;         // [2]: seed, step
    const int64_t* fixed_ids;   // [B], or null: the fixed term is left out
    const int64_t* indices;     // [B], or null
    int64_t items, flip_width;
};

// A draw of timesteps: one 64-bit word per sample, searched in ascending thresholds.
struct Draw {
    const int64_t* thresholds;  // [count]
    int64_t count;
    const int64_t* positions;  // [B], or null: not stratified
    int64_t total;             // strata
    int64_t* timesteps;        // [B], written
};

}  // namespace memfast
