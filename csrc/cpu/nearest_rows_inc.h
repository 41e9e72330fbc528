// The row kernels, compiled once per instruction set from this one text; all of it is in an unnamed namespace.
#pragma once
#include <cmath>
#include <cstring>

#include "cpu/half.h"
#include "cpu/nearest_rows.h"
#if defined(__F16C__)
#include <immintrin.h>
#endif

#pragma GCC diagnostic ignored "-Wpsabi"
#define MEMFAST_INLINE inline __attribute__((always_inline))

namespace memfast {
namespace {

typedef double Double8 __attribute__((vector_size(64)));
typedef float Float8 __attribute__((vector_size(32)));
typedef float Float16 __attribute__((vector_size(64)));
typedef int32_t Int16 __attribute__((vector_size(64)));
typedef uint32_t Word8 __attribute__((vector_size(32)));
typedef uint16_t Short8 __attribute__((vector_size(16)));
typedef uint8_t Byte8 __attribute__((vector_size(8)));
typedef uint8_t Byte16 __attribute__((vector_size(16)));

template <class V, class T>
MEMFAST_INLINE V read(const T* from) {
    V v;
    std::memcpy(&v, from, sizeof(V));
    return v;
}

MEMFAST_INLINE Float8 floats(const float* x) { return read<Float8>(x); }
MEMFAST_INLINE Float8 floats(const uint8_t* x) { return __builtin_convertvector(read<Byte8>(x), Float8); }
MEMFAST_INLINE Float8 floats(const Bf16* x) {
    const Word8 bits = __builtin_convertvector(read<Short8>(x), Word8) << 16;
    return read<Float8>(&bits);
}
MEMFAST_INLINE Float8 floats(const Half* x) {
#if defined(__F16C__)
    const __m256 v = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
    return read<Float8>(&v);
#else
    Float8 v;
    for (int i = 0; i < 8; ++i) v[i] = to_float(x[i]);
    return v;
#endif
}
template <class T>
MEMFAST_INLINE Double8 doubles(const T* x) { return __builtin_convertvector(floats(x), Double8); }
MEMFAST_INLINE Double8 doubles(const double* x) { return read<Double8>(x); }

// The last dim % 8 numbers with zeros behind them.
template <class T>
struct Tail {
    T values[8];
    Tail(const T* row, int64_t dim) {
        std::memset(values, 0, sizeof(values));
        std::memcpy(values, row + dim / 8 * 8, dim % 8 * sizeof(T));
    }
};

template <class Function>
MEMFAST_INLINE auto with_type(const void* row, NumberType type, const Function& function) {
    switch (type) {
        case NumberType::uint8: return function(static_cast<const uint8_t*>(row));
        case NumberType::float16: return function(static_cast<const Half*>(row));
        case NumberType::bfloat16: return function(static_cast<const Bf16*>(row));
        case NumberType::float32: return function(static_cast<const float*>(row));
        default: return function(static_cast<const double*>(row));
    }
}

template <class T>
void centre_typed(const T* row, const Centre& c, int64_t dim, float* out) {
    const auto write = [&](const T* x, int64_t d, int count) {
        Float8 result;
        if (c.in_double || sizeof(T) == 8) {
            double mean[8] = {};
            std::memcpy(mean, c.mean + d, count * sizeof(double));
            result = __builtin_convertvector((doubles(x) - read<Double8>(mean)) * c.scale, Float8);
        } else {
            float mean[8] = {};
            std::memcpy(mean, c.mean_float + d, count * sizeof(float));
            if constexpr (sizeof(T) < 8) result = (floats(x) - read<Float8>(mean)) * static_cast<float>(c.scale);
        }
        std::memcpy(out + d, &result, count * sizeof(float));
    };
    for (int64_t d = 0; d + 8 <= dim; d += 8) write(row + d, d, 8);
    if (dim % 8) write(Tail<T>(row, dim).values, dim / 8 * 8, static_cast<int>(dim % 8));
}

void centre_row(const void* row, NumberType type, const Centre& c, int64_t dim, float* out) {
    with_type(row, type, [&](const auto* x) { centre_typed(x, c, dim, out); });
}

MEMFAST_INLINE double total(const Float16& v) {
    double sum = 0;
    for (int i = 0; i < 16; ++i) sum += static_cast<double>(v[i]);
    return sum;
}

// Rows below this are taken as zero on the grid; the rest then holds all of them.
constexpr float kSmallest = 1e-30f;
// Adding and subtracting 1.5 * 2**23 rounds to the nearest integer.
constexpr float kRounder = 12582912.0f;

GridRow to_grid(const float* row, int64_t dim, uint8_t* bytes) {
    Float16 largest16 = {};
    for (int64_t d = 0; d + 16 <= dim; d += 16) {
        const Float16 x = read<Float16>(row + d), magnitude = x < 0 ? -x : x;
        largest16 = magnitude > largest16 ? magnitude : largest16;
    }
    float largest = 0;
    for (int i = 0; i < 16; ++i) largest = largest16[i] > largest ? largest16[i] : largest;
    for (int64_t d = dim / 16 * 16; d < dim; ++d) largest = std::fabs(row[d]) > largest ? std::fabs(row[d]) : largest;
    const bool tiny = !(largest >= kSmallest);
    const float scale = tiny ? 0.0f : largest / 127.0f, inverse = tiny ? 0.0f : 127.0f / largest;
    GridRow result{scale, 0, 0};
    const auto step = [&](const float* from, uint8_t* to, Float16& squares, Float16& rest_squares) {
        const Float16 x = read<Float16>(from);
        const Float16 whole = (x * inverse + kRounder) - kRounder;
        const Float16 rest = x - whole * scale;
        squares += x * x;
        rest_squares += rest * rest;
        const Byte16 b = __builtin_convertvector(__builtin_convertvector(whole, Int16) + 128, Byte16);
        std::memcpy(to, &b, 16);
    };
    constexpr int64_t kSlice = 512;  // few float32 additions before the sums go to float64
    for (int64_t s = 0; s < dim; s += kSlice) {
        const int64_t end = dim - s < kSlice ? dim : s + kSlice;
        Float16 squares = {}, rest_squares = {};
        int64_t d = s;
        for (; d + 16 <= end; d += 16) step(row + d, bytes + d, squares, rest_squares);
        if (d < end) {
            float padded[16] = {};
            uint8_t out[16];
            std::memcpy(padded, row + d, (end - d) * sizeof(float));
            step(padded, out, squares, rest_squares);
            std::memcpy(bytes + d, out, end - d);
        }
        result.squares += total(squares);
        result.rest_squares += total(rest_squares);
    }
    return result;
}

void to_double(const void* row, NumberType type, int64_t dim, double* out) {
    with_type(row, type, [&](const auto* x) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(x)>>;
        for (int64_t d = 0; d + 8 <= dim; d += 8) {
            const Double8 v = doubles(x + d);
            std::memcpy(out + d, &v, 64);
        }
        if (dim % 8) {
            const Double8 v = doubles(Tail<T>(x, dim).values);
            std::memcpy(out + dim / 8 * 8, &v, dim % 8 * sizeof(double));
        }
    });
}

MEMFAST_INLINE double add_lanes(const Double8& v) {
    const double a = v[0] + v[4], b = v[1] + v[5], c = v[2] + v[6], d = v[3] + v[7];
    return (a + c) + (b + d);
}

void squared_distances(const double* query, const void* const* rows, NumberType type, int64_t dim, double* out) {
    with_type(rows[0], type, [&](const auto* first) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(first)>>;
        const T* row[4];
        for (int r = 0; r < 4; ++r) row[r] = static_cast<const T*>(rows[r]);
        Double8 sums[4] = {};
        for (int64_t d = 0; d + 8 <= dim; d += 8) {
            const Double8 x = read<Double8>(query + d);
#pragma GCC unroll 4
            for (int r = 0; r < 4; ++r) {
                const Double8 difference = x - doubles(row[r] + d);
                sums[r] += difference * difference;
            }
        }
        if (dim % 8) {
            const Double8 x = read<Double8>(query + dim / 8 * 8);
            for (int r = 0; r < 4; ++r) {
                const Double8 difference = x - doubles(Tail<T>(row[r], dim).values);
                sums[r] += difference * difference;
            }
        }
        for (int r = 0; r < 4; ++r) out[r] = add_lanes(sums[r]);
    });
}

// The bits of a magnitude grow with it, and those of NaN and infinity are the largest.
template <class Bits, class T>
bool any_above(const T* row, int64_t dim, Bits limit) {
    constexpr Bits kMagnitude = static_cast<Bits>(~Bits{0}) >> 1;
    Bits largest = 0;
    for (int64_t d = 0; d < dim; ++d) {
        Bits bits;
        std::memcpy(&bits, row + d, sizeof(bits));
        bits &= kMagnitude;
        largest = bits > largest ? bits : largest;
    }
    return largest > limit;
}

bool is_bad(const void* row, NumberType type, int64_t dim, double largest) {
    uint64_t limit;
    std::memcpy(&limit, &largest, 8);
    switch (type) {
        case NumberType::uint8: return false;
        case NumberType::float16: return any_above<uint16_t>(static_cast<const Half*>(row), dim, 0x7bff);
        case NumberType::bfloat16: return any_above<uint16_t>(static_cast<const Bf16*>(row), dim, 0x7f7f);
        case NumberType::float32: return any_above<uint32_t>(static_cast<const float*>(row), dim, 0x7f7fffffu);
        default: return any_above<uint64_t>(static_cast<const double*>(row), dim, limit);
    }
}

}  // namespace
}  // namespace memfast
