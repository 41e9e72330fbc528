// Four elements of float32, bfloat16, float16 or bytes in and out of memory, in one access where rows are aligned.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/kernels.h"
#include "cuda/normal.h"

namespace memfast {

constexpr int kQuad = 4;

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }

template <typename T> __device__ __forceinline__ T rounded(float value);
template <> __device__ __forceinline__ float rounded<float>(float value) { return value; }
template <> __device__ __forceinline__ __nv_bfloat16 rounded<__nv_bfloat16>(float value) { return __float2bfloat16_rn(value); }
template <> __device__ __forceinline__ __half rounded<__half>(float value) { return __float2half_rn(value); }

// QUADS groups of four elements of T: 16 bytes of float32 (one group) or of a 16-bit type (two).
template <typename T> struct Vector {
    static constexpr int kQuads = sizeof(T) == 4 ? 1 : 2;
    static constexpr int kSize = kQuad * kQuads;
    alignas(16) T value[kSize];
};

template <typename T>
__device__ __forceinline__ void load(const T* row, int64_t first, int64_t numel, bool aligned, float* out) {
    constexpr int kSize = Vector<T>::kSize;
    if (aligned) {
        Vector<T> vector;
        *reinterpret_cast<uint4*>(vector.value) = *reinterpret_cast<const uint4*>(row + first);
#pragma unroll
        for (int i = 0; i < kSize; ++i) out[i] = to_float(vector.value[i]);
    } else {
#pragma unroll
        for (int i = 0; i < kSize; ++i) out[i] = first + i < numel ? to_float(row[first + i]) : 0.0f;
    }
}

template <typename T>
__device__ __forceinline__ void store(T* row, int64_t first, int64_t numel, bool aligned, const float* values) {
    constexpr int kSize = Vector<T>::kSize;
    if (aligned) {
        Vector<T> vector;
#pragma unroll
        for (int i = 0; i < kSize; ++i) vector.value[i] = rounded<T>(values[i]);
        *reinterpret_cast<uint4*>(row + first) = *reinterpret_cast<const uint4*>(vector.value);
    } else {
#pragma unroll
        for (int i = 0; i < kSize; ++i)
            if (first + i < numel) row[first + i] = rounded<T>(values[i]);
    }
}

}  // namespace memfast
