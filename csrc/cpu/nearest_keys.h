// Keys from products, as plain loops over a constant number of columns. Each instruction set compiles its own copy,
// so everything is in an unnamed namespace.
#pragma once
#include <cstring>

#include "cpu/nearest_tile.h"

namespace memfast {
namespace {

template <int columns>
uint64_t mask_below(const uint32_t* keys, uint32_t limit) {
    uint32_t any = 0;
    for (int j = 0; j < columns; ++j) any |= keys[j] < limit;
    if (!any) return 0;
    uint64_t mask = 0;
    for (int j = 0; j < columns; ++j) mask |= static_cast<uint64_t>(keys[j] < limit) << j;
    return mask;
}

template <int columns>
uint64_t integer_keys(const int32_t* products, const uint32_t* norms, uint32_t base, uint32_t limit, uint32_t* keys) {
    for (int j = 0; j < columns; ++j) keys[j] = base + norms[j] - 2u * static_cast<uint32_t>(products[j]);
    return mask_below<columns>(keys, limit);
}

template <int columns>
uint64_t float_keys(const int32_t* products, const FloatPanel& p, const FloatQuery& q, uint32_t limit, uint32_t* keys) {
    float bound[columns];
    for (int j = 0; j < columns; ++j) {
        const float product = static_cast<float>(
            static_cast<int32_t>(static_cast<uint32_t>(products[j]) - static_cast<uint32_t>(p.offset[j])));
        const float slack = q.error * p.length[j] + q.length * p.error[j];
        const float value = ((q.norm + p.norm[j]) - (q.scale * p.scale[j]) * product) - slack;
        bound[j] = value > 0.0f ? value : 0.0f;
    }
    std::memcpy(keys, bound, sizeof(bound));
    return mask_below<columns>(keys, limit);
}

// 16-bit packing, shared by the kernels that multiply pairs of 16-bit numbers.
template <int width, int shift>
void pack_pairs(const uint8_t* const* rows, int count, int64_t dim, void* packed) {
    auto* out = static_cast<int16_t*>(packed);
    const int64_t steps = (dim + 1) / 2;
    for (int i = 0; i < width; ++i) {
        int16_t* to = out + 2 * i;
        if (i >= count) {
            for (int64_t s = 0; s < steps; ++s, to += 2 * width) to[0] = to[1] = 0;
            continue;
        }
        const uint8_t* row = rows[i];
        for (int64_t s = 0; s < dim / 2; ++s, to += 2 * width) {
            to[0] = static_cast<int16_t>(row[2 * s] - shift);
            to[1] = static_cast<int16_t>(row[2 * s + 1] - shift);
        }
        if (dim % 2) {
            to[0] = static_cast<int16_t>(row[dim - 1] - shift);
            to[1] = 0;
        }
    }
}

}  // namespace
}  // namespace memfast
