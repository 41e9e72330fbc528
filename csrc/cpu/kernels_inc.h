// The kernels of kernels.h over a vector type V. Included once per instruction set; all in the anonymous namespace, so
// that the linker cannot take one unit's copy for another's.
#pragma once
#include <cstring>

#include "cpu/half.h"
#include "cpu/normal.h"

namespace memfast {
namespace {

// Calls step<units>(i) for whole units of a block and returns how many elements are left.
template <int units_at_once, class Step>
inline int64_t for_units(int64_t n, Step step) {
    int64_t i = 0;
    for (; i + units_at_once * kUnit <= n; i += units_at_once * kUnit) step(i, std::integral_constant<int, units_at_once>());
    if (units_at_once > 1)
        for (; i + kUnit <= n; i += kUnit) step(i, std::integral_constant<int, 1>());
    return n - i;
}

// Units computed at once, so that enough independent multiplications are in flight. Measured on Zen 4, ns per normal:
// AVX-512 1.03, 0.82 and 0.73 for 1, 2 and 4 units; AVX2 1.29 and 1.32 for 1 and 2 (it runs out of registers).
template <class V>
constexpr int kUnitsAtOnce = V::W >= 16 ? 4 : 1;

// Asks for the cache lines that a later step will read (or write). The arithmetic between two loads is long enough that
// the processor does not look ahead by itself: 4 million elements took 1.02 ns each without, 0.78 with, 0.76 in cache.
constexpr int64_t kAhead = 2048;  // bytes; 512 to 4096 measured alike
template <bool to_write, class T>
inline void prefetch(const T* now, int64_t count) {
    const char* later = reinterpret_cast<const char*>(now) + kAhead;
    for (int64_t byte = 0; byte < count * int64_t(sizeof(T)); byte += 64) __builtin_prefetch(later + byte, to_write, 3);
}

template <class V>
void philox_kernel(const int64_t* counters, const int64_t* keys, int64_t n, int64_t* out) {
    constexpr int lanes = V::W / 2;
    for (int64_t i = 0; i < n; ++i) {
        // One counter per call: each has a key of its own. For known-answer tests, not for speed.
        uint64_t word[4][lanes] = {};
        for (int k = 0; k < 4; ++k)
            for (int lane = 0; lane < lanes; ++lane) word[k][lane] = uint32_t(counters[4 * i + k]);
        const StreamLanes<V> s({uint32_t(keys[2 * i]), uint32_t(keys[2 * i + 1]), 0, 0, 0});
        Words<V> w[1] = {{V::load64(word[0]), V::load64(word[1]), V::load64(word[2]), V::load64(word[3])}};
        philox_rounds<V, 1>(w, s.keys);
        const typename V::I packed[4] = {V::pack(w[0].w0, w[0].w0), V::pack(w[0].w1, w[0].w1),
                                         V::pack(w[0].w2, w[0].w2), V::pack(w[0].w3, w[0].w3)};
        for (int k = 0; k < 4; ++k) {
            uint32_t low;
            std::memcpy(&low, &packed[k], 4);
            out[4 * i + k] = low;
        }
    }
}

template <class V>
void normals_kernel(const Stream& stream, uint64_t quad, int64_t n, float* out) {
    const StreamLanes<V> s(stream);
    const int64_t left = for_units<kUnitsAtOnce<V>>(n, [&](int64_t i, auto units) {
        make_normals<V, units>(s, quad + i / 4, [&](int j, typename V::F z) { V::store(out + i + j, z); });
    });
    if (left) {
        float last[kUnit];
        make_normals<V, 1>(s, quad + (n - left) / 4, [&](int j, typename V::F z) { V::store(last + j, z); });
        std::memcpy(out + n - left, last, left * sizeof(float));
    }
}

// Lanes hold counters of different samples.
template <class V>
void short_normals_kernel(const Stream* streams, int64_t samples, int64_t quads, float* out) {
    constexpr int lanes = V::W / 2;
    const int64_t total = samples * quads;
    uint64_t order[lanes];
    const typename V::U numbered = V::lane_counters();
    std::memcpy(order, &numbered, sizeof order);
    const StreamLanes<V> shared(streams[0]);
    int64_t sample = 0, block = 0;
    for (int64_t first = 0; first < total; first += lanes) {
        uint64_t counter[lanes] = {}, low[lanes] = {}, high[lanes] = {};
        for (int place = 0; place < lanes && first + place < total; ++place) {
            int lane = 0;
            while (order[lane] != uint64_t(place)) ++lane;
            counter[lane] = block;
            low[lane] = streams[sample].id_low;
            high[lane] = streams[sample].tag_and_id_high;
            if (++block == quads) block = 0, ++sample;
        }
        Words<V> w[1] = {{V::load64(counter), V::load64(low), shared.step, V::load64(high)}};
        philox_rounds<V, 1>(w, shared.keys);
        typename V::F one, two;
        to_normals<V>(w[0], one, two);
        float made[2 * V::W];
        V::store(made, one);
        V::store(made + V::W, two);
        const int64_t count = total - first < lanes ? total - first : lanes;
        std::memcpy(out + 4 * first, made, 4 * count * sizeof(float));
    }
}

template <class V, bool with_fixed>
inline typename V::F mixed(typename V::F x, typename V::F fixed, typename V::F z, const typename V::F (&c)[3]) {
    typename V::F value = V::mul(c[0], x);
    if (with_fixed) value = V::add(value, V::mul(c[1], fixed));
    return V::add(value, V::mul(c[2], z));
}

template <class V, class X, class Out, bool with_fixed>
void mix_block(const Stream& stream, uint64_t quad, int64_t n, const X* x, const float* fixed, Coefficients coefficients, Out* out) {
    using F = typename V::F;
    const StreamLanes<V> s(stream);
    const F c[3] = {V::set(coefficients.x), V::set(coefficients.f), V::set(coefficients.n)};
    const int64_t left = for_units<kUnitsAtOnce<V>>(n, [&](int64_t i, auto units) {
        prefetch<false>(x + i, units * kUnit);
        prefetch<true>(out + i, units * kUnit);
        make_normals<V, units>(s, quad + i / 4, [&](int j, F z) {
            const F f = with_fixed ? V::load(fixed + i + j) : z;
            V::store(out + i + j, mixed<V, with_fixed>(V::load(x + i + j), f, z, c));
        });
    });
    if (!left) return;
    const int64_t done = n - left;
    X x_left[kUnit] = {};
    float fixed_left[kUnit] = {};
    Out out_left[kUnit];
    std::memcpy(x_left, x + done, left * sizeof(X));
    if (with_fixed) std::memcpy(fixed_left, fixed + done, left * sizeof(float));
    make_normals<V, 1>(s, quad + done / 4, [&](int j, F z) {
        V::store(out_left + j, mixed<V, with_fixed>(V::load(x_left + j), V::load(fixed_left + j), z, c));
    });
    std::memcpy(out + done, out_left, left * sizeof(Out));
}

template <class V, class X, class Out>
void mix_kernel(const Stream& s, uint64_t quad, int64_t n, const void* x, const float* fixed, Coefficients c, void* out) {
    if (fixed)
        mix_block<V, X, Out, true>(s, quad, n, static_cast<const X*>(x), fixed, c, static_cast<Out*>(out));
    else
        mix_block<V, X, Out, false>(s, quad, n, static_cast<const X*>(x), fixed, c, static_cast<Out*>(out));
}

// Squares are summed in float32 over at most kRun units, then in float64: same tree for every V.
constexpr int64_t kRun = 16 * kUnit;

template <class V, class P, class X, bool with_fixed, bool with_gradient>
void residual_block(const Stream& stream, uint64_t quad, int64_t n, const P* prediction, const X* x, const float* fixed,
                    Coefficients coefficients, float k_p, float scale, P* gradient, double* lanes) {
    using F = typename V::F;
    const StreamLanes<V> s(stream);
    const F c[3] = {V::set(coefficients.x), V::set(coefficients.f), V::set(coefficients.n)}, kp = V::set(k_p), gs = V::set(scale);
    for (int64_t run = 0; run < n; run += kRun) {
        const int64_t length = n - run < kRun ? n - run : kRun;
        F sums[kUnit / V::W];
        for (F& sum : sums) sum = V::set(0.0f);
        const int64_t left = for_units<kUnitsAtOnce<V>>(length, [&](int64_t i, auto units) {
            i += run;
            prefetch<false>(prediction + i, units * kUnit);
            prefetch<false>(x + i, units * kUnit);
            if (with_gradient) prefetch<true>(gradient + i, units * kUnit);
            make_normals<V, units>(s, quad + i / 4, [&](int j, F z) {
                const F f = with_fixed ? V::load(fixed + i + j) : z;
                const F target = mixed<V, with_fixed>(V::load(x + i + j), f, z, c);
                const F r = V::sub(V::mul(kp, V::load(prediction + i + j)), target);
                if (with_gradient) V::store(gradient + i + j, V::mul(gs, r));
                sums[j % kUnit / V::W] = V::add(sums[j % kUnit / V::W], V::mul(r, r));
            });
        });
        float sum[kUnit];
        for (int j = 0; j < kUnit / V::W; ++j) V::store(sum + j * V::W, sums[j]);
        for (int j = 0; j < kUnit; ++j) lanes[j] += double(sum[j]);
        if (!left) continue;
        const int64_t done = run + length - left;
        P prediction_left[kUnit] = {}, gradient_left[kUnit];
        X x_left[kUnit] = {};
        float fixed_left[kUnit] = {}, residuals[kUnit];
        std::memcpy(prediction_left, prediction + done, left * sizeof(P));
        std::memcpy(x_left, x + done, left * sizeof(X));
        if (with_fixed) std::memcpy(fixed_left, fixed + done, left * sizeof(float));
        make_normals<V, 1>(s, quad + done / 4, [&](int j, F z) {
            const F target = mixed<V, with_fixed>(V::load(x_left + j), V::load(fixed_left + j), z, c);
            const F r = V::sub(V::mul(kp, V::load(prediction_left + j)), target);
            V::store(gradient_left + j, V::mul(gs, r));
            V::store(residuals + j, r);
        });
        if (with_gradient) std::memcpy(gradient + done, gradient_left, left * sizeof(P));
        for (int64_t j = 0; j < left; ++j) lanes[j] += double(residuals[j] * residuals[j]);
    }
}

template <class V, class P, class X>
void residual_kernel(const Stream& s, uint64_t quad, int64_t n, const void* prediction, const void* x,
                     const float* fixed, Coefficients c, float k_p, float scale, void* gradient, double* lanes) {
    const auto block = fixed ? (gradient ? residual_block<V, P, X, true, true> : residual_block<V, P, X, true, false>)
                             : (gradient ? residual_block<V, P, X, false, true> : residual_block<V, P, X, false, false>);
    block(s, quad, n, static_cast<const P*>(prediction), static_cast<const X*>(x), fixed, c, k_p, scale,
          static_cast<P*>(gradient), lanes);
}

template <class V, class X>
inline typename V::F load_normalised(const X* p) {
    return V::load(p);
}
// (2 * byte - 255) / 255: the integer is exact, the product is rounded once.
template <class V>
inline typename V::F load_normalised(const uint8_t* p) {
    const typename V::F byte = V::load(p);
    return V::mul(V::sub(V::add(byte, byte), V::set(255.0f)), V::set(1.0f / 255.0f));
}

template <class V, class X>
void widen_kernel(const void* from, int64_t n, float* to) {
    const X* x = static_cast<const X*>(from);
    int64_t i = 0;
    for (; i + V::W <= n; i += V::W) V::store(to + i, load_normalised<V>(x + i));
    if (i == n) return;
    X x_left[V::W] = {};
    float left[V::W];
    std::memcpy(x_left, x + i, (n - i) * sizeof(X));
    V::store(left, load_normalised<V>(x_left));
    std::memcpy(to + i, left, (n - i) * sizeof(float));
}

template <class V, class Out>
void narrow_kernel(const float* from, int64_t n, void* to) {
    Out* out = static_cast<Out*>(to);
    int64_t i = 0;
    for (; i + V::W <= n; i += V::W) V::store(out + i, V::load(from + i));
    if (i == n) return;
    float left[V::W] = {};
    Out out_left[V::W];
    std::memcpy(left, from + i, (n - i) * sizeof(float));
    V::store(out_left, V::load(left));
    std::memcpy(out + i, out_left, (n - i) * sizeof(Out));
}

// The parameters of one stretch stay in the first-level cache while the averages pass, one after another.
constexpr int64_t kEmaStretch = 2048;

template <class V, class P>
void ema_kernel(const void* parameter, int64_t n, float* const* averages, const float* weights, int count) {
    const P* p = static_cast<const P*>(parameter);
    for (int64_t first = 0; first < n; first += kEmaStretch) {
        const int64_t end = n - first < kEmaStretch ? n : first + kEmaStretch;
        for (int k = 0; k < count; ++k) {
            const typename V::F weight = V::set(weights[k]);
            float* average = averages[k];
            int64_t i = first;
            for (; i + V::W <= end; i += V::W) {
                const typename V::F old = V::load(average + i);
                V::store(average + i, V::add(old, V::mul(weight, V::sub(V::load(p + i), old))));
            }
            for (; i < end; ++i) average[i] += weights[k] * (to_float(p[i]) - average[i]);
        }
    }
}

template <class V>
void scale_kernel(const float* in, int64_t n, float factor, float* out) {
    int64_t i = 0;
    for (; i + V::W <= n; i += V::W) V::store(out + i, V::mul(V::load(in + i), V::set(factor)));
    for (; i < n; ++i) out[i] = in[i] * factor;
}

template <class V>
const Kernels& table_of_kernels() {
    static const Kernels table = {
        philox_kernel<V>,
        normals_kernel<V>,
        short_normals_kernel<V>,
        {{mix_kernel<V, float, float>, mix_kernel<V, float, float>},
         {mix_kernel<V, float, Bf16>, mix_kernel<V, Bf16, Bf16>},
         {mix_kernel<V, float, Half>, mix_kernel<V, Half, Half>}},
        {{residual_kernel<V, float, float>, residual_kernel<V, float, float>},
         {residual_kernel<V, Bf16, float>, residual_kernel<V, Bf16, Bf16>},
         {residual_kernel<V, Half, float>, residual_kernel<V, Half, Half>}},
        {widen_kernel<V, float>, widen_kernel<V, Bf16>, widen_kernel<V, Half>, widen_kernel<V, uint8_t>},
        {narrow_kernel<V, float>, narrow_kernel<V, Bf16>, narrow_kernel<V, Half>},
        {ema_kernel<V, float>, ema_kernel<V, Bf16>, ema_kernel<V, Half>},
        scale_kernel<V>,
    };
    return table;
}

}  // namespace
}  // namespace memfast
