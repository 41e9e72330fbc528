// What the ops on noise share: values checked, a batch cut into pieces for the threads, clean data read as a kernel wants it,
// and the short samples that share vectors. Which thread computes a piece never changes a bit of the result.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/noise.h"
#include "cpu/parallel.h"

namespace memfast {
namespace {

constexpr int64_t kChunk = 16384;       // elements of one task; the loss adds up one partial sum per chunk
constexpr int64_t kBlock = 2048;        // elements that pass through buffers in the first-level cache
constexpr int64_t kShort = 64;          // up to this many elements, samples share vectors
constexpr int64_t kSequential = 32768;  // fewer elements than this are not worth waking a thread for
constexpr int64_t kMaxId = (int64_t(1) << 56) - 1;

inline bool out_of_range(const int64_t* values, int64_t n, int64_t largest) {
    bool bad = false;
    for (int64_t i = 0; i < n; ++i) bad |= values[i] < 0 || values[i] > largest;
    return bad;
}

inline bool bad_address(const Operands& o) {
    return o.key[1] < 0 || o.key[1] > 0xFFFFFFFFll || out_of_range(o.sample_ids, o.samples, kMaxId) ||
           (o.fixed_ids && out_of_range(o.fixed_ids, o.samples, kMaxId));
}

inline bool bad_rows(const Operands& o) {
    if (out_of_range(o.timesteps, o.samples, o.rows - 1)) return true;
    bool bad = false;
    for (int64_t i = 0; i < o.samples; ++i)
        for (int k = 0; k < kTableColumns; ++k) bad |= !std::isfinite(o.table[kTableColumns * o.timesteps[i] + k]);
    return bad;
}

inline bool bad_operands(const Operands& o) {
    return bad_address(o) || bad_rows(o) || (o.indices && out_of_range(o.indices, o.samples, o.items - 1));
}

inline Stream noise_stream(const Operands& o, int64_t sample) {
    return stream_of(o.key[0], o.key[1], o.sample_ids[sample], kNoise);
}
inline Stream fixed_stream(const Operands& o, int64_t sample) { return stream_of(o.key[0], 0, o.fixed_ids[sample], kFixed); }
inline Stream flip_stream(const Operands& o, int64_t sample) {
    return stream_of(o.key[0], o.key[1], o.sample_ids[sample], kAugmentation);
}

// Calls work(sample, first, n) for pieces of at most kChunk elements; consecutive samples share a task while they are
// small. Pieces do not depend on the number of threads.
template <class Work>
void for_pieces(const Operands& o, int threads, Work work) {
    if (o.samples == 0 || o.elements == 0) return;
    if (o.samples * o.elements < kSequential) threads = 1;
    const int64_t chunks = (o.elements + kChunk - 1) / kChunk;
    if (chunks == 1) {
        const int64_t group = std::max<int64_t>(1, kChunk / o.elements);
        parallel_for((o.samples + group - 1) / group, threads, [&](int64_t task) {
            const int64_t end = std::min(o.samples, (task + 1) * group);
            for (int64_t sample = task * group; sample < end; ++sample) work(sample, 0, o.elements);
        });
        return;
    }
    parallel_for(o.samples * chunks, threads, [&](int64_t task) {
        const int64_t first = task % chunks * kChunk;
        work(task / chunks, first, std::min(kChunk, o.elements - first));
    });
}

// Bytes of one piece of a data set's row, reversed row by row of the image where the sample is flipped.
inline const uint8_t* flipped(const uint8_t* row, int64_t first, int64_t n, int64_t width, uint8_t* buffer) {
    for (int64_t i = first; i < first + n;) {
        const int64_t start = i / width * width, end = std::min(start + width, first + n);
        const uint8_t* mirror = row + start + width - 1 - (i - start);
        for (int64_t j = 0; j < end - i; ++j) buffer[i - first + j] = mirror[-j];
        i = end;
    }
    return buffer;
}

// The clean data of up to kBlock elements of one sample, as one of the two types a kernel takes.
class Reader {
  public:
    Reader(const Operands& operands, NumberType native) : operands_(operands), native_(native) {}

    // Whether pieces come as `native` (1) or float32 (0): the second index of a kernel.
    int form() const { return operands_.x0_type == native_ && native_ != NumberType::float32; }
    bool direct() const { return operands_.x0_type == native_ || operands_.x0_type == NumberType::float32; }

    const void* read(int64_t sample, int64_t first, int64_t n, float* buffer) const {
        const auto* bytes = static_cast<const uint8_t*>(operands_.x0);
        const int64_t row = operands_.indices ? operands_.indices[sample] : sample;
        const uint8_t* from = bytes + (row * operands_.elements + first) * size_of(operands_.x0_type);
        if (direct()) return from;
        uint8_t mirrored[kBlock];
        if (operands_.flip_width && first_words(flip_stream(operands_, sample)).w0 & 1)
            from = flipped(bytes + row * operands_.elements, first, n, operands_.flip_width, mirrored);
        kernels().widen[int(operands_.x0_type)](from, n, buffer);
        return buffer;
    }

  private:
    const Operands& operands_;
    NumberType native_;
};

// Short samples: the noise of many at once. Returns [count, padded] normals of samples `first` on.
inline const float* short_noise(const Operands& o, bool fixed, int64_t first, int64_t count, std::vector<float>& buffer) {
    const int64_t quads = (o.elements + 3) / 4;
    std::vector<Stream> streams(count);
    for (int64_t i = 0; i < count; ++i) streams[i] = fixed ? fixed_stream(o, first + i) : noise_stream(o, first + i);
    buffer.resize(count * 4 * quads);
    kernels().short_normals(streams.data(), count, quads, buffer.data());
    return buffer.data();
}

inline float mixed(Coefficients c, float x, const float* fixed, float z) {
    float value = c.x * x;
    if (fixed) value = value + c.f * *fixed;
    return value + c.n * z;
}

// Calls work(sample, x, fixed, noise) for every short sample; x, fixed (or null) and noise are float32 buffers.
template <class Work>
void for_short_samples(const Operands& o, int threads, Work work) {
    const Reader reader(o, NumberType::float32);
    const int64_t padded = (o.elements + 3) / 4 * 4, group = kChunk / padded;
    if (o.samples * o.elements < kSequential) threads = 1;
    parallel_for((o.samples + group - 1) / group, threads, [&](int64_t task) {
        const int64_t first = task * group, count = std::min(group, o.samples - first);
        std::vector<float> fresh_buffer, fixed_buffer;
        const float* fresh = short_noise(o, false, first, count, fresh_buffer);
        const float* fixed = o.fixed_ids ? short_noise(o, true, first, count, fixed_buffer) : nullptr;
        float x[kShort];
        for (int64_t i = 0; i < count; ++i) {
            const auto* clean = static_cast<const float*>(reader.read(first + i, 0, o.elements, x));
            work(first + i, clean, fixed ? fixed + i * padded : nullptr, fresh + i * padded);
        }
    });
}

inline bool is_short(const Operands& o) { return o.elements > 0 && o.elements <= kShort; }


}  // namespace
}  // namespace memfast
