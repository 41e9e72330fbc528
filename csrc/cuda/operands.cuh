// What the noise and the loss kernels share: clean values, coefficients and both noises of one vector of elements.
#pragma once
#include "cuda/vector.cuh"

namespace memfast {

__device__ __forceinline__ float coefficient(const Operands& o, int64_t timestep, int column) {
    const bool known = timestep >= 0 && timestep < o.rows;
    return known ? o.table[timestep * kTableColumns + column] : __int_as_float(0x7fffffff);
}

__device__ __forceinline__ bool is_flipped(const Operands& o, int64_t sample) {
    return o.flip_width > 0 && (words_of(0, o.sample_ids[sample], o.key[0], o.key[1], kAugmentation).w[0] & 1u);
}

// (2 * byte - 255) / 255 of SIZE elements of row indices[sample]; NaN where there is no such row.
template <int SIZE>
__device__ __forceinline__ void clean_bytes(const Operands& o, int64_t sample, int64_t first, float* out) {
    const int64_t row = o.indices[sample];
    const bool known = row >= 0 && row < o.items, flipped = is_flipped(o, sample);
    const uint8_t* bytes = static_cast<const uint8_t*>(o.x0) + (known ? row : 0) * o.elements;
    const uint32_t width = static_cast<uint32_t>(o.flip_width);  // a flipped row is shorter than 2**32 (checked in memfast/ops)
    const bool whole = (o.elements | o.flip_width) % kQuad == 0 && reinterpret_cast<uintptr_t>(o.x0) % kQuad == 0;
#pragma unroll
    for (int quad = 0; quad < SIZE / kQuad; ++quad) {
        const int64_t start = first + quad * kQuad;
        uint8_t value[kQuad] = {};
        if (known && whole && start < o.elements) {
            // Reversed, four elements at column c are the four that end at column width - 1 - c.
            const int64_t column = flipped ? static_cast<uint32_t>(start) % width : 0;
            const int64_t from = flipped ? start - column + o.flip_width - kQuad - column : start;
            uint32_t word = *reinterpret_cast<const uint32_t*>(bytes + from);
            if (flipped) word = __byte_perm(word, 0, 0x0123);
#pragma unroll
            for (int i = 0; i < kQuad; ++i) value[i] = static_cast<uint8_t>(word >> (8 * i));
        } else if (known) {
#pragma unroll
            for (int i = 0; i < kQuad; ++i) {
                const int64_t element = start + i;
                if (element >= o.elements) continue;
                const int64_t column = flipped ? static_cast<uint32_t>(element) % width : 0;
                value[i] = bytes[flipped ? element - column + o.flip_width - 1 - column : element];
            }
        }
#pragma unroll
        for (int i = 0; i < kQuad; ++i) {
            const float byte = static_cast<float>(value[i]);
            out[quad * kQuad + i] = known ? (byte * 2.0f - 255.0f) * (1.0f / 255.0f) : __int_as_float(0x7fffffff);
        }
    }
}

// x := (c_x * x + c_f * fixed) + c_n * noise, each step rounded.
template <int SIZE>
__device__ __forceinline__ void mix(const Operands& o, int64_t sample, int64_t first, float c_x, float c_f, float c_n,
                                    float* x) {
    const int64_t seed = o.key[0], step = o.key[1], sample_id = o.sample_ids[sample];
#pragma unroll
    for (int quad = 0; quad < SIZE / kQuad; ++quad) {
        const uint32_t number = static_cast<uint32_t>(first / kQuad) + quad;
        float normal[kQuad];
#pragma unroll
        for (int i = 0; i < kQuad; ++i) x[quad * kQuad + i] = c_x * x[quad * kQuad + i];
        if (o.fixed_ids != nullptr) {
            normals_of(words_of(number, o.fixed_ids[sample], seed, 0, kFixed), normal);
#pragma unroll
            for (int i = 0; i < kQuad; ++i) x[quad * kQuad + i] = x[quad * kQuad + i] + c_f * normal[i];
        }
        normals_of(words_of(number, sample_id, seed, step, kNoise), normal);
#pragma unroll
        for (int i = 0; i < kQuad; ++i) x[quad * kQuad + i] = x[quad * kQuad + i] + c_n * normal[i];
    }
}

__device__ __forceinline__ int64_t drawn_timestep(const Draw& d, const int64_t* sample_ids, const int64_t* key,
                                                  int64_t sample) {
    const int64_t position = d.positions != nullptr ? d.positions[sample] : 0;
    const int64_t total = d.positions != nullptr ? d.total : 0;
    return reached(d.thresholds, d.count, timestep_word(sample_ids[sample], key[0], key[1], position, total));
}

}  // namespace memfast
