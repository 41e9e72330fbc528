// The types of numbers that kernels read: one enumeration for the CPU, CUDA and Python (which reads it from the modules).
#pragma once
#include <cstdint>

namespace memfast {

// The kernels' tables are indexed by it: the three that the network's tensors may have come first.
enum class NumberType : int { float32 = 0, bfloat16 = 1, float16 = 2, uint8 = 3, float64 = 4 };

constexpr int kFloatTypes = 3;       // float32, bfloat16, float16
constexpr int kReadableTypes = 4;    // those and uint8

constexpr int64_t size_of(NumberType type) {
    return type == NumberType::float64 ? 8 : type == NumberType::float32 ? 4 : type == NumberType::uint8 ? 1 : 2;
}

}  // namespace memfast
