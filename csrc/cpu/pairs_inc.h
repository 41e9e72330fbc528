// The squared distance of two rows of bytes, compiled once per instruction set from this one text.
#pragma once
#include <cstdint>

namespace memfast {
namespace {

int64_t byte_distance(const uint8_t* a, const uint8_t* b, int64_t n) {
    constexpr int64_t kSlice = 16384;  // 16384 * 255**2 < 2**31
    int64_t total = 0;
    for (int64_t s = 0; s < n; s += kSlice) {
        const int64_t end = n - s < kSlice ? n : s + kSlice;
        int32_t sum = 0;
        for (int64_t i = s; i < end; ++i) {
            const int16_t difference = static_cast<int16_t>(int16_t{a[i]} - int16_t{b[i]});
            sum += int32_t{difference} * int32_t{difference};
        }
        total += sum;
    }
    return total;
}

}  // namespace
}  // namespace memfast
