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

}  // namespace
}  // namespace memfast
