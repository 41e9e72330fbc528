// Words, normals, timestep draws, and the noise op with its gather from a resident data set.
#include "cuda/launch.cuh"
#include "cuda/operands.cuh"

namespace memfast {
namespace {

__global__ void philox_kernel(int64_t* out, const int64_t* counter, const int64_t* key, int64_t count) {
    const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (row >= count) return;
    Words words;
    for (int i = 0; i < 4; ++i) words.w[i] = static_cast<uint32_t>(counter[row * 4 + i]);
    words = philox(words, static_cast<uint32_t>(key[row * 2]), static_cast<uint32_t>(key[row * 2 + 1]));
    for (int i = 0; i < 4; ++i) out[row * 4 + i] = words.w[i];
}

__global__ void __launch_bounds__(kThreads)
standard_normal_kernel(float* out, const int64_t* sample_ids, int64_t numel, const int64_t* key, uint32_t tag,
                       int64_t first_quad, int shift, unsigned chunks, bool aligned) {
    const int64_t sample = blockIdx.x / chunks;
    const int64_t quad = static_cast<int64_t>(blockIdx.x % chunks) * blockDim.x + threadIdx.x;
    const int64_t first = quad * kQuad - shift;
    if (first >= numel) return;
    float normal[kQuad];
    const uint32_t number = static_cast<uint32_t>(first_quad + quad);
    normals_of(words_of(number, sample_ids[sample], key[0], key[1], tag), normal);
    float* row = out + sample * numel;
    if (aligned) {
        store(row, first, numel, true, normal);
    } else {
#pragma unroll
        for (int i = 0; i < kQuad; ++i)
            if (first + i >= 0 && first + i < numel) row[first + i] = normal[i];
    }
}

__global__ void draw_kernel(Draw draw, const int64_t* sample_ids, int64_t batch, const int64_t* key) {
    const int64_t sample = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (sample < batch) draw.timesteps[sample] = drawn_timestep(draw, sample_ids, key, sample);
}

template <typename T, bool BYTES>
__global__ void __launch_bounds__(kThreads) noise_kernel(T* out, Operands o, Draw draw, unsigned chunks, bool aligned) {
    constexpr int kSize = Vector<T>::kSize;
    const unsigned chunk = blockIdx.x % chunks;
    const int64_t sample = blockIdx.x / chunks;
    const int64_t first = (static_cast<int64_t>(chunk) * blockDim.x + threadIdx.x) * kSize;
    int64_t timestep;
    if (draw.thresholds != nullptr) {
        timestep = drawn_timestep(draw, o.sample_ids, o.key, sample);
        if (chunk == 0 && threadIdx.x == 0) draw.timesteps[sample] = timestep;
    } else {
        timestep = o.timesteps[sample];
    }
    if (first >= o.elements) return;
    float x[kSize];
    if constexpr (BYTES) {
        clean_bytes<kSize>(o, sample, first, x);
    } else {
        load(static_cast<const T*>(o.x0) + sample * o.elements, first, o.elements, aligned, x);
    }
    mix<kSize>(o, sample, first, coefficient(o, timestep, 0), coefficient(o, timestep, 1), coefficient(o, timestep, 2), x);
    store(out + sample * o.elements, first, o.elements, aligned, x);
}

template <typename T> void noise_of(void* out, const Operands& o, const Draw& draw, cudaStream_t stream) {
    constexpr int kSize = Vector<T>::kSize;
    const Grid grid = grid_of(o.elements, kSize);
    const unsigned count = blocks(o.samples * static_cast<int64_t>(grid.chunks));
    const bool whole = o.elements % kSize == 0 && is_aligned(out);
    if (o.indices != nullptr) {
        noise_kernel<T, true><<<count, grid.threads, 0, stream>>>(static_cast<T*>(out), o, draw, grid.chunks, whole);
    } else {
        const bool aligned = whole && is_aligned(o.x0);
        noise_kernel<T, false><<<count, grid.threads, 0, stream>>>(static_cast<T*>(out), o, draw, grid.chunks, aligned);
    }
}

}  // namespace

void launch_philox(int64_t* out, const int64_t* counter, const int64_t* key, int64_t count, void* stream) {
    philox_kernel<<<blocks((count + kThreads - 1) / kThreads), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
        out, counter, key, count);
    check_launch();
}

void launch_standard_normal(const Operands& o, int stream_tag, int64_t offset, float* out, void* stream) {
    const int shift = static_cast<int>(offset % kQuad);
    const Grid grid = grid_of(o.elements + shift, kQuad);
    const bool aligned = shift == 0 && o.elements % kQuad == 0 && is_aligned(out);
    const unsigned count = blocks(o.samples * static_cast<int64_t>(grid.chunks));
    standard_normal_kernel<<<count, grid.threads, 0, static_cast<cudaStream_t>(stream)>>>(
        out, o.sample_ids, o.elements, o.key, static_cast<uint32_t>(stream_tag), offset / kQuad, shift, grid.chunks, aligned);
    check_launch();
}

void launch_draw_timesteps(const Operands& o, const Draw& draw, void* stream) {
    draw_kernel<<<blocks((o.samples + kThreads - 1) / kThreads), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
        draw, o.sample_ids, o.samples, o.key);
    check_launch();
}

void launch_noise(const Operands& operands, const Draw& draw, NumberType out_type, void* out, void* stream) {
    const auto cuda_stream = static_cast<cudaStream_t>(stream);
    if (out_type == NumberType::float32) noise_of<float>(out, operands, draw, cuda_stream);
    else if (out_type == NumberType::bfloat16) noise_of<__nv_bfloat16>(out, operands, draw, cuda_stream);
    else noise_of<__half>(out, operands, draw, cuda_stream);
    check_launch();
}

}  // namespace memfast
