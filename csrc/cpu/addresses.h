// The Philox counter and key of a sample, and one counter's words in plain C++ (for draws of one word per sample).
#pragma once
#include <cstdint>

#include "cpu/kernels.h"

namespace memfast {

enum StreamTag : int { kNoise = 0, kTimestep = 1, kFixed = 2, kAugmentation = 3 };

static inline Stream stream_of(int64_t seed, int64_t step, int64_t sample_id, int tag) {
    return {uint32_t(seed), uint32_t(uint64_t(seed) >> 32), uint32_t(sample_id), uint32_t(step),
            uint32_t(tag) << 24 | (uint32_t(uint64_t(sample_id) >> 32) & 0xFFFFFFu)};
}

struct FourWords { uint32_t w0, w1, w2, w3; };

static inline FourWords first_words(const Stream& s) {
    uint32_t c0 = 0, c1 = s.id_low, c2 = s.step, c3 = s.tag_and_id_high, k0 = s.key0, k1 = s.key1;
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const uint64_t p0 = uint64_t(c0) * 0xD2511F53u, p1 = uint64_t(c2) * 0xCD9E8D57u;
        c0 = uint32_t(p1 >> 32) ^ c1 ^ k0;
        c1 = uint32_t(p1);
        c2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
        c3 = uint32_t(p0);
    }
    return {c0, c1, c2, c3};
}

}  // namespace memfast
