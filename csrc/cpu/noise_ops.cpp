#include "cpu/noise_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "cpu/addresses.h"
#include "cpu/parallel.h"

namespace memfast {
namespace {

constexpr int64_t kChunk = 16384;       // elements of one task; the loss adds up one partial sum per chunk
constexpr int64_t kBlock = 2048;        // elements that pass through buffers in the first-level cache
constexpr int64_t kShort = 64;          // up to this many elements, samples share vectors
constexpr int64_t kSequential = 32768;  // fewer elements than this are not worth waking a thread for
constexpr int64_t kMaxId = (int64_t(1) << 56) - 1;

bool out_of_range(const int64_t* values, int64_t n, int64_t largest) {
    bool bad = false;
    for (int64_t i = 0; i < n; ++i) bad |= values[i] < 0 || values[i] > largest;
    return bad;
}

bool bad_address(const Batch& b) {
    return b.key[1] < 0 || b.key[1] > 0xFFFFFFFFll || out_of_range(b.sample_ids, b.samples, kMaxId) ||
           (b.fixed_ids && out_of_range(b.fixed_ids, b.samples, kMaxId));
}

bool bad_rows(const Batch& b) {
    if (out_of_range(b.timesteps, b.samples, b.rows - 1)) return true;
    bool bad = false;
    for (int64_t i = 0; i < b.samples; ++i)
        for (int k = 0; k < 7; ++k) bad |= !std::isfinite(b.table[7 * b.timesteps[i] + k]);
    return bad;
}

bool bad_batch(const Batch& b, const Data& data) {
    return bad_address(b) || bad_rows(b) || (data.indices && out_of_range(data.indices, b.samples, data.items - 1));
}

Stream noise_stream(const Batch& b, int64_t sample) { return stream_of(b.key[0], b.key[1], b.sample_ids[sample], kNoise); }
Stream fixed_stream(const Batch& b, int64_t sample) { return stream_of(b.key[0], 0, b.fixed_ids[sample], kFixed); }

int64_t size_of(Number type) { return type == Number::float32 ? 4 : type == Number::uint8 ? 1 : 2; }

// Calls work(sample, first, n) for pieces of at most kChunk elements; consecutive samples share a task while they are
// small. Pieces do not depend on the number of threads.
template <class Work>
void for_pieces(const Batch& b, Work work) {
    if (b.samples == 0 || b.elements == 0) return;
    const int threads = b.samples * b.elements < kSequential ? 1 : b.threads;
    const int64_t chunks = (b.elements + kChunk - 1) / kChunk;
    if (chunks == 1) {
        const int64_t group = std::max<int64_t>(1, kChunk / b.elements);
        parallel_for((b.samples + group - 1) / group, threads, [&](int64_t task) {
            const int64_t end = std::min(b.samples, (task + 1) * group);
            for (int64_t sample = task * group; sample < end; ++sample) work(sample, 0, b.elements);
        });
        return;
    }
    parallel_for(b.samples * chunks, threads, [&](int64_t task) {
        const int64_t first = task % chunks * kChunk;
        work(task / chunks, first, std::min(kChunk, b.elements - first));
    });
}

// Bytes of one piece of a data set's row, reversed row by row of the image where the sample is flipped.
const uint8_t* flipped(const uint8_t* row, int64_t first, int64_t n, int64_t width, uint8_t* buffer) {
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
    Reader(const Batch& b, const Data& data, Number native) : batch_(b), data_(data), native_(native) {}

    // Whether pieces come as `native` (1) or float32 (0): the second index of a kernel.
    int form() const { return data_.type == native_ && native_ != Number::float32; }
    bool direct() const { return data_.type == native_ || data_.type == Number::float32; }

    const void* read(int64_t sample, int64_t first, int64_t n, float* buffer) const {
        const auto* bytes = static_cast<const uint8_t*>(data_.address);
        const int64_t row = data_.indices ? data_.indices[sample] : sample;
        const uint8_t* from = bytes + (row * batch_.elements + first) * size_of(data_.type);
        if (direct()) return from;
        uint8_t mirrored[kBlock];
        if (data_.flip_width && first_words(stream_of(batch_.key[0], batch_.key[1], batch_.sample_ids[sample],
                                                      kAugmentation)).w0 & 1)
            from = flipped(bytes + row * batch_.elements, first, n, data_.flip_width, mirrored);
        kernels().widen[int(data_.type)](from, n, buffer);
        return buffer;
    }

  private:
    const Batch& batch_;
    const Data& data_;
    Number native_;
};

// Short samples: the noise of many at once. Returns [count, padded] normals of samples `first` on.
const float* short_noise(const Batch& b, bool fixed, int64_t first, int64_t count, std::vector<float>& buffer) {
    const int64_t quads = (b.elements + 3) / 4;
    std::vector<Stream> streams(count);
    for (int64_t i = 0; i < count; ++i) streams[i] = fixed ? fixed_stream(b, first + i) : noise_stream(b, first + i);
    buffer.resize(count * 4 * quads);
    kernels().short_normals(streams.data(), count, quads, buffer.data());
    return buffer.data();
}

Mix input_mix(const float* row) { return {row[0], row[1], row[2]}; }
Mix target_mix(const float* row) { return {row[4], row[5], row[6]}; }

float mixed(Mix c, float x, const float* fixed, float z) {
    float value = c.x * x;
    if (fixed) value = value + c.f * *fixed;
    return value + c.n * z;
}

// Calls work(sample, x, fixed, noise) for every short sample; x, fixed (or null) and noise are float32 buffers.
template <class Work>
void for_short_samples(const Batch& b, const Data& data, Work work) {
    const Reader reader(b, data, Number::float32);
    const int64_t padded = (b.elements + 3) / 4 * 4, group = kChunk / padded;
    const int threads = b.samples * b.elements < kSequential ? 1 : b.threads;
    parallel_for((b.samples + group - 1) / group, threads, [&](int64_t task) {
        const int64_t first = task * group, count = std::min(group, b.samples - first);
        std::vector<float> fresh_buffer, fixed_buffer;
        const float* fresh = short_noise(b, false, first, count, fresh_buffer);
        const float* fixed = b.fixed_ids ? short_noise(b, true, first, count, fixed_buffer) : nullptr;
        float x[kShort];
        for (int64_t i = 0; i < count; ++i) {
            const auto* clean = static_cast<const float*>(reader.read(first + i, 0, b.elements, x));
            work(first + i, clean, fixed ? fixed + i * padded : nullptr, fresh + i * padded);
        }
    });
}

bool is_short(const Batch& b) { return b.elements > 0 && b.elements <= kShort; }

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

Status standard_normal(const Batch& b, int stream, int64_t offset, float* out) {
    if (bad_address(b)) return Status::bad_value;
    const int64_t head = offset % 4;
    for_pieces(b, [&](int64_t sample, int64_t first, int64_t n) {
        const Stream s = stream_of(b.key[0], b.key[1], b.sample_ids[sample], stream);
        float* to = out + sample * b.elements + first;
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

Status draw_timesteps(const Batch& b, const Draw& draw, int64_t* out) {
    if (bad_address(b)) return Status::bad_value;
    if (draw.positions && out_of_range(draw.positions, b.samples, draw.total - 1)) return Status::bad_value;
    for (int64_t i = 0; i < b.samples; ++i) {
        const FourWords w = first_words(stream_of(b.key[0], b.key[1], b.sample_ids[i], kTimestep));
        uint64_t word = uint64_t(w.w1) << 32 | w.w0;
        if (draw.positions) word = stratified(word, draw.positions[i], draw.total);
        const auto signed_word = int64_t(word ^ uint64_t(1) << 63);
        out[i] = std::upper_bound(draw.thresholds, draw.thresholds + draw.count, signed_word) - draw.thresholds;
    }
    return Status::fine;
}

Status mix_noise(const Batch& b, const Data& data, Number out_type, void* out) {
    if (bad_batch(b, data)) return Status::bad_value;
    const auto row_of = [&](int64_t sample) { return b.table + 7 * b.timesteps[sample]; };
    const auto out_at = [&](int64_t element) { return static_cast<uint8_t*>(out) + element * size_of(out_type); };
    if (is_short(b)) {
        for_short_samples(b, data, [&](int64_t sample, const float* x, const float* fixed, const float* fresh) {
            const Mix c = input_mix(row_of(sample));
            float value[kShort];
            for (int64_t j = 0; j < b.elements; ++j) value[j] = mixed(c, x[j], fixed ? fixed + j : nullptr, fresh[j]);
            kernels().narrow[int(out_type)](value, b.elements, out_at(sample * b.elements));
        });
        return Status::fine;
    }
    const Reader reader(b, data, out_type);
    const auto mix = kernels().mix[int(out_type)][reader.form()];
    const int64_t block = reader.direct() && !b.fixed_ids ? kChunk : kBlock;
    for_pieces(b, [&](int64_t sample, int64_t first, int64_t n) {
        alignas(64) float x[kBlock], fixed[kBlock];
        for (const int64_t end = first + n; first < end; first += block) {
            const int64_t count = std::min(block, end - first);
            if (b.fixed_ids) kernels().normals(fixed_stream(b, sample), first / 4, count, fixed);
            mix(noise_stream(b, sample), first / 4, count, reader.read(sample, first, count, x),
                b.fixed_ids ? fixed : nullptr, input_mix(row_of(sample)), out_at(sample * b.elements + first));
        }
    });
    return Status::fine;
}

Status noise_loss(const Batch& b, const Data& data, const void* prediction, Number prediction_type, bool mean,
                  double gradient_scale, void* gradient, float* losses) {
    if (bad_batch(b, data)) return Status::bad_value;
    const int64_t size = size_of(prediction_type), chunks = std::max<int64_t>(1, (b.elements + kChunk - 1) / kChunk);
    std::vector<double> sums(b.samples * chunks, 0.0);
    const auto row_of = [&](int64_t sample) { return b.table + 7 * b.timesteps[sample]; };
    const auto prediction_at = [&](int64_t i) { return static_cast<const uint8_t*>(prediction) + i * size; };
    const auto gradient_at = [&](int64_t i) { return gradient ? static_cast<uint8_t*>(gradient) + i * size : nullptr; };
    if (is_short(b)) {
        for_short_samples(b, data, [&](int64_t sample, const float* x, const float* fixed, const float* fresh) {
            const float *row = row_of(sample), scale = float(double(row[3]) * gradient_scale);
            const Mix c = target_mix(row);
            float value[kShort];
            kernels().widen[int(prediction_type)](prediction_at(sample * b.elements), b.elements, value);
            double sum = 0;
            for (int64_t j = 0; j < b.elements; ++j) {
                const float r = row[3] * value[j] - mixed(c, x[j], fixed ? fixed + j : nullptr, fresh[j]);
                sum += double(r * r);
                value[j] = scale * r;
            }
            sums[sample] = sum;
            if (gradient) kernels().narrow[int(prediction_type)](value, b.elements, gradient_at(sample * b.elements));
        });
    } else {
        const Reader reader(b, data, prediction_type);
        const auto residual = kernels().residual[int(prediction_type)][reader.form()];
        const int64_t block = reader.direct() && !b.fixed_ids ? kChunk : kBlock;
        for_pieces(b, [&](int64_t sample, int64_t first, int64_t n) {
            alignas(64) float x[kBlock], fixed[kBlock];
            const float* row = row_of(sample);
            double lanes[kLanes] = {}, sum = 0;
            const int64_t chunk = first / kChunk;
            for (const int64_t end = first + n; first < end; first += block) {
                const int64_t count = std::min(block, end - first), at = sample * b.elements + first;
                if (b.fixed_ids) kernels().normals(fixed_stream(b, sample), first / 4, count, fixed);
                residual(noise_stream(b, sample), first / 4, count, prediction_at(at), reader.read(sample, first, count, x),
                         b.fixed_ids ? fixed : nullptr, target_mix(row), row[3], float(double(row[3]) * gradient_scale),
                         gradient_at(at), lanes);
            }
            for (double lane : lanes) sum += lane;
            sums[sample * chunks + chunk] = sum;
        });
    }
    double all = 0;
    for (int64_t sample = 0; sample < b.samples; ++sample) {
        double sum = 0;
        for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += sums[sample * chunks + chunk];
        sum /= double(std::max<int64_t>(1, b.elements));
        if (!mean) losses[sample] = float(sum);
        all += sum;
    }
    if (mean) *losses = float(all / double(std::max<int64_t>(1, b.samples)));
    return Status::fine;
}

}  // namespace memfast
