// Four lanes in plain C++, for any processor. Included by one translation unit only (anonymous namespace).
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/number_types.h"

namespace memfast {
namespace {

struct Portable {
    static constexpr int W = 4;  // floats per vector
    struct F { float v[4]; };
    struct I { uint32_t v[4]; };
    struct U { uint64_t v[2]; };  // one 32-bit word per 64-bit lane; the high half is never read

    static U set64(uint64_t x) { return {{x, x}}; }
    // Lane j holds the counter whose quadruple of elements interleave() puts at place j.
    static U lane_counters() { return {{0, 1}}; }
    static U load64(const uint64_t* p) { return {{p[0], p[1]}}; }
    static U add64(U a, U b) { return {{a.v[0] + b.v[0], a.v[1] + b.v[1]}}; }
    static U mul32(U a, uint32_t m) {
        return {{uint64_t(uint32_t(a.v[0])) * m, uint64_t(uint32_t(a.v[1])) * m}};
    }
    static U high32(U a) { return {{a.v[0] >> 32, a.v[1] >> 32}}; }
    static U xor3(U a, U b, U c) { return {{a.v[0] ^ b.v[0] ^ c.v[0], a.v[1] ^ b.v[1] ^ c.v[1]}}; }
    static I pack(U a, U b) {
        return {{uint32_t(a.v[0]), uint32_t(b.v[0]), uint32_t(a.v[1]), uint32_t(b.v[1])}};
    }

    template <class Op> static F map(Op op) { F r; for (int i = 0; i < 4; ++i) r.v[i] = op(i); return r; }
    template <class Op> static I map_int(Op op) { I r; for (int i = 0; i < 4; ++i) r.v[i] = op(i); return r; }
    static F set(float x) { return {{x, x, x, x}}; }
    static F add(F a, F b) { return map([&](int i) { return a.v[i] + b.v[i]; }); }
    static F sub(F a, F b) { return map([&](int i) { return a.v[i] - b.v[i]; }); }
    static F mul(F a, F b) { return map([&](int i) { return a.v[i] * b.v[i]; }); }
    static F sqrt(F a) { return map([&](int i) { return std::sqrt(a.v[i]); }); }
    static F from_unsigned(I a) { return map([&](int i) { return float(a.v[i]); }); }
    static F from_signed(I a) { return map([&](int i) { return float(int32_t(a.v[i])); }); }
    static F as_float(I a) { F r; std::memcpy(&r, &a, sizeof r); return r; }
    static I as_int(F a) { I r; std::memcpy(&r, &a, sizeof r); return r; }
    static I set_int(uint32_t x) { return {{x, x, x, x}}; }
    static I add_int(I a, I b) { return map_int([&](int i) { return a.v[i] + b.v[i]; }); }
    static I sub_int(I a, I b) { return map_int([&](int i) { return a.v[i] - b.v[i]; }); }
    static I and_int(I a, I b) { return map_int([&](int i) { return a.v[i] & b.v[i]; }); }
    template <int n> static I left(I a) { return map_int([&](int i) { return a.v[i] << n; }); }
    template <int n> static I right_signed(I a) { return map_int([&](int i) { return uint32_t(int32_t(a.v[i]) >> n); }); }
    // b where bit 30 of `bits` is set, otherwise a.
    static F select_by_bit30(I bits, F a, F b) { return map([&](int i) { return bits.v[i] >> 30 & 1 ? b.v[i] : a.v[i]; }); }
    // a with its sign flipped where bit 31 of `bits` is set.
    static F flip_by_bit31(F a, I bits) {
        const I x = as_int(a);
        return as_float(map_int([&](int i) { return x.v[i] ^ (bits.v[i] & 0x80000000u); }));
    }
    // Cosines and sines of the packed words, to elements in order.
    static void interleave(F cosine, F sine, F& first, F& second) {
        first = {{cosine.v[0], sine.v[0], cosine.v[1], sine.v[1]}};
        second = {{cosine.v[2], sine.v[2], cosine.v[3], sine.v[3]}};
    }

    static F load(const float* p) { F r; std::memcpy(&r, p, sizeof r); return r; }
    static F load(const Bf16* p) { return map([&](int i) { return to_float(p[i]); }); }
    static F load(const Half* p) { return map([&](int i) { return to_float(p[i]); }); }
    static F load(const uint8_t* p) { return map([&](int i) { return float(p[i]); }); }
    static void store(float* p, F a) { std::memcpy(p, &a, sizeof a); }
    static void store(Bf16* p, F a) { for (int i = 0; i < 4; ++i) p[i] = to_bf16(a.v[i]); }
    static void store(Half* p, F a) { for (int i = 0; i < 4; ++i) p[i] = to_half(a.v[i]); }
};

}  // namespace
}  // namespace memfast
