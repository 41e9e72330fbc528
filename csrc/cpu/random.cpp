// Philox words, standard normals and timestep draws of whole tensors.
#include "cpu/samples.h"

namespace memfast {
namespace {

// (position * 2**64 + word) / total: the position's stratum, a total-th of the line.
uint64_t stratified(uint64_t word, uint64_t position, uint64_t total) {
    uint64_t rest = position, quotient = 0;
    for (int shift = 48; shift >= 0; shift -= 16) {
        const uint64_t value = rest << 16 | (word >> shift & 0xFFFF);
        quotient = quotient << 16 | value / total;
        rest = value % total;
    }
    return quotient;
}

}  // namespace

void philox_words(const int64_t* counters, const int64_t* keys, int64_t n, int64_t* words) {
    kernels().philox(counters, keys, n, words);
}

Status standard_normal(const Operands& o, int stream, int64_t offset, float* out, int threads) {
    if (bad_address(o)) return Status::bad_value;
    const int64_t head = offset % 4;
    for_pieces(o, threads, [&](int64_t sample, int64_t first, int64_t n) {
        const Stream s = stream_of(o.key[0], o.key[1], o.sample_ids[sample], stream);
        float* to = out + sample * o.elements + first;
        uint64_t quad = (offset + first) / 4;
        if (head) {  // the rest of a quadruple that begins before the first element
            float four[4];
            kernels().normals(s, quad++, 4, four);
            const int64_t count = std::min(4 - head, n);
            std::memcpy(to, four + head, count * sizeof(float));
            to += count;
            n -= count;
        }
        kernels().normals(s, quad, n, to);
    });
    return Status::fine;
}

Status draw_timesteps(const Operands& o, const Draw& draw) {
    if (bad_address(o)) return Status::bad_value;
    if (draw.positions && out_of_range(draw.positions, o.samples, draw.total - 1)) return Status::bad_value;
    for (int64_t i = 0; i < o.samples; ++i) {
        const FourWords w = first_words(stream_of(o.key[0], o.key[1], o.sample_ids[i], kTimestep));
        uint64_t word = uint64_t(w.w1) << 32 | w.w0;
        if (draw.positions) word = stratified(word, draw.positions[i], draw.total);
        const auto signed_word = int64_t(word ^ uint64_t(1) << 63);
        draw.timesteps[i] = std::upper_bound(draw.thresholds, draw.thresholds + draw.count, signed_word) - draw.thresholds;
    }
    return Status::fine;
}

}  // namespace memfast
