// Philox4x32-10 and Box-Muller over a vector type V (vector_*.h): the algorithm stands here once, for every instruction
// set. memfast/ops/reference/random.py defines it; each line below is one of its rounded operations.
#pragma once
#include <cstdint>

#include "cpu/kernels.h"

namespace memfast {
namespace {

// Elements made per unit, the same for every V: sums over units then do not depend on the vector width.
constexpr int kUnit = 32;

template <class V>
struct Words {
    typename V::U w0, w1, w2, w3;
};

// A stream's constants in every lane, made once per block.
template <class V>
struct StreamLanes {
    typename V::U id_low, step, tag_and_id_high;
    uint64_t keys[20];

    explicit StreamLanes(const Stream& s)
        : id_low(V::set64(s.id_low)), step(V::set64(s.step)), tag_and_id_high(V::set64(s.tag_and_id_high)) {
        uint32_t k0 = s.key0, k1 = s.key1;
        for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
            keys[2 * round] = k0;
            keys[2 * round + 1] = k1;
        }
    }
};

// Ten rounds on K vectors of counters at a time, to hide the latency of the multiplication. The words live in 64-bit
// lanes whose high halves collect garbage: the multiplication reads the low halves only.
template <class V, int K>
inline void philox_rounds(Words<V> (&c)[K], const uint64_t* keys) {
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
        const typename V::U k0 = V::set64(keys[2 * round]), k1 = V::set64(keys[2 * round + 1]);
#pragma GCC unroll 8
        for (int k = 0; k < K; ++k) {
            const typename V::U p0 = V::mul32(c[k].w0, 0xD2511F53u), p1 = V::mul32(c[k].w2, 0xCD9E8D57u);
            c[k].w0 = V::xor3(V::high32(p1), c[k].w1, k0);
            c[k].w1 = p1;
            c[k].w2 = V::xor3(V::high32(p0), c[k].w3, k1);
            c[k].w3 = p0;
        }
    }
}

template <class V>
inline typename V::F multiply_add(typename V::F a, typename V::F b, float c) {
    return V::add(V::mul(a, b), V::set(c));
}

template <class V>
inline typename V::F radius(typename V::I word) {
    using F = typename V::F;
    using I = typename V::I;
    const I bits = V::as_int(V::add(V::from_unsigned(word), V::set(0.5f)));
    const I exponent = V::template right_signed<23>(V::sub_int(bits, V::set_int(0x3F3504F3u)));
    const F f = V::sub(V::as_float(V::sub_int(bits, V::template left<23>(exponent))), V::set(1.0f));
    const F square = V::mul(f, f);
    F p = V::set(-0.17400872707366943f);
    p = multiply_add<V>(p, f, 0.2853497266769409f);
    p = multiply_add<V>(p, f, -0.29829534888267517f);
    p = multiply_add<V>(p, f, 0.3315517008304596f);
    p = multiply_add<V>(p, f, -0.3992612659931183f);
    p = multiply_add<V>(p, f, 0.5000267624855042f);
    p = multiply_add<V>(p, f, -0.6666781902313232f);
    F s = V::mul(V::mul(p, f), square);
    s = V::add(s, square);
    s = V::sub(s, V::add(f, f));
    const F scale = V::from_signed(V::sub_int(exponent, V::set_int(32)));
    return V::sqrt(V::add(s, V::mul(scale, V::set(-1.3862943649291992f))));
}

template <class V>
inline void cosine_and_sine(typename V::I word, typename V::F& cosine, typename V::F& sine) {
    using F = typename V::F;
    using I = typename V::I;
    const I shifted = V::add_int(word, V::set_int(0x20000000u));  // its two highest bits: the nearest quarter turn
    const I rest = V::sub_int(word, V::and_int(shifted, V::set_int(0xC0000000u)));
    const F a = V::mul(V::from_signed(rest), V::set(1.462918119976564e-09f));
    const F square = V::mul(a, a);
    F s = V::set(-0.00019515218446031213f);
    s = multiply_add<V>(s, square, 0.00833216030150652f);
    s = multiply_add<V>(s, square, -0.16666655242443085f);
    s = V::add(V::mul(V::mul(s, square), a), a);
    F c = V::set(2.4433082217001356e-05f);
    c = multiply_add<V>(c, square, -0.0013887315290048718f);
    c = multiply_add<V>(c, square, 0.04166664555668831f);
    c = multiply_add<V>(c, square, -0.5f);
    c = multiply_add<V>(c, square, 1.0f);
    cosine = V::flip_by_bit31(V::select_by_bit30(shifted, c, s), V::add_int(word, V::set_int(0x60000000u)));
    sine = V::flip_by_bit31(V::select_by_bit30(shifted, s, c), shifted);
}

// 2 W normals in element order from W/2 counters' words.
template <class V>
inline void to_normals(const Words<V>& words, typename V::F& first, typename V::F& second) {
    const typename V::F r = radius<V>(V::pack(words.w0, words.w2));
    typename V::F cosine, sine;
    cosine_and_sine<V>(V::pack(words.w1, words.w3), cosine, sine);
    V::interleave(V::mul(r, cosine), V::mul(r, sine), first, second);
}

// Calls use(i, normals i .. i + W) for the `units` * kUnit normals from element 4 * quad on; i counts from 0.
template <class V, int units, class Use>
inline void make_normals(const StreamLanes<V>& s, uint64_t quad, Use use) {
    constexpr int K = units * kUnit / (2 * V::W);
    Words<V> words[K];
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k)
        words[k] = {V::add64(V::lane_counters(), V::set64(quad + uint64_t(k) * (V::W / 2))), s.id_low, s.step, s.tag_and_id_high};
    philox_rounds<V, K>(words, s.keys);
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) {
        typename V::F first, second;
        to_normals<V>(words[k], first, second);
        use(2 * k * V::W, first);
        use((2 * k + 1) * V::W, second);
    }
}

}  // namespace
}  // namespace memfast
