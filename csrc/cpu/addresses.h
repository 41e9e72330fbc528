// The address of a sample's randomness: its Philox counter and key, and the words of one counter in plain C++ (for draws
// of one word per sample). The rule stands in memfast/ops/addresses.py.
#pragma once
#include <cstdint>

#include "operands.h"

namespace memfast {

// What of the counter and the key does not depend on the element.
struct Stream {
    uint32_t key0, key1, id_low, step, tag_and_id_high;
};

static inline Stream stream_of(int64_t seed, int64_t step, int64_t sample_id, uint32_t tag) {
    return {uint32_t(seed), uint32_t(uint64_t(seed) >> 32), uint32_t(sample_id), uint32_t(step),
            tag << 24 | (uint32_t(uint64_t(sample_id) >> 32) & 0xFFFFFFu)};
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
