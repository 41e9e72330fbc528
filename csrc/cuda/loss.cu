// The loss: residuals, gradient and partial sums in one pass, then the sums in a fixed order.
#include "cuda/launch.cuh"
#include "cuda/operands.cuh"

namespace memfast {
namespace {

constexpr int kSumThreads = 1024;

// Clean values of the prediction's vector, whatever dtype x0 has.
template <int SIZE>
__device__ __forceinline__ void clean_values(const Operands& o, int64_t sample, int64_t first, bool aligned, float* out) {
    const int64_t start = sample * o.elements;
    if (o.indices != nullptr) return clean_bytes<SIZE>(o, sample, first, out);
#pragma unroll
    for (int part = 0; part < SIZE; part += kQuad) {
        if (o.x0_type == NumberType::float32) {
            load(static_cast<const float*>(o.x0) + start, first + part, o.elements, aligned, out + part);
        } else if (part % 8 == 0) {
            float wide[8];
            if (o.x0_type == NumberType::bfloat16) {
                load(static_cast<const __nv_bfloat16*>(o.x0) + start, first + part, o.elements, aligned && SIZE == 8, wide);
            } else {
                load(static_cast<const __half*>(o.x0) + start, first + part, o.elements, aligned && SIZE == 8, wide);
            }
#pragma unroll
            for (int i = 0; i < (SIZE < 8 ? SIZE : 8); ++i) out[part + i] = wide[i];
        }
    }
}

// The sum over a block, in one fixed order; valid in thread 0.
template <typename T> __device__ T block_sum(T value) {
    __shared__ T sums[kSumThreads / kWarp];
    for (int distance = kWarp / 2; distance > 0; distance /= 2) value += __shfl_down_sync(0xffffffffu, value, distance);
    if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = 0;
    if (threadIdx.x == 0)
        for (int warp = 0; warp < static_cast<int>(blockDim.x) / kWarp; ++warp) value += sums[warp];
    return value;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
loss_kernel(float* partial, T* gradient, const T* prediction, Operands o, unsigned chunks, double scale, bool aligned) {
    constexpr int kSize = Vector<T>::kSize;
    const unsigned chunk = blockIdx.x % chunks;
    const int64_t sample = blockIdx.x / chunks;
    const int64_t first = (static_cast<int64_t>(chunk) * blockDim.x + threadIdx.x) * kSize;
    float sum = 0.0f;
    if (first < o.elements) {
        const int64_t timestep = o.timesteps[sample];
        const float k_p = coefficient(o, timestep, 3);
        float target[kSize], predicted[kSize];
        clean_values<kSize>(o, sample, first, aligned, target);
        load(prediction + sample * o.elements, first, o.elements, aligned, predicted);
        mix<kSize>(o, sample, first, coefficient(o, timestep, 4), coefficient(o, timestep, 5), coefficient(o, timestep, 6),
                   target);
#pragma unroll
        for (int i = 0; i < kSize; ++i) {
            predicted[i] = k_p * predicted[i] - target[i];
            if (first + i < o.elements) sum += predicted[i] * predicted[i];
        }
        if (gradient != nullptr) {
            const float factor = static_cast<float>(static_cast<double>(k_p) * scale);
#pragma unroll
            for (int i = 0; i < kSize; ++i) predicted[i] = factor * predicted[i];
            store(gradient + sample * o.elements, first, o.elements, aligned, predicted);
        }
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kSumThreads) finish_kernel(float* out, const float* partial, int64_t count, double divisor) {
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += static_cast<double>(partial[blockIdx.x * count + i]);
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = static_cast<float>(sum / divisor);
}

template <typename T>
void loss_of(float* partial, void* gradient, const void* prediction, const Operands& o, double scale, cudaStream_t stream) {
    constexpr int kSize = Vector<T>::kSize;
    const Grid grid = grid_of(o.elements, kSize);
    const bool aligned = o.elements % 8 == 0 && is_aligned(prediction) && is_aligned(gradient) && (o.indices != nullptr || is_aligned(o.x0));
    loss_kernel<T><<<blocks(o.samples * static_cast<int64_t>(grid.chunks)), grid.threads, 0, stream>>>(
        partial, static_cast<T*>(gradient), static_cast<const T*>(prediction), o, grid.chunks, scale, aligned);
}

}  // namespace

int64_t blocks_per_sample(int64_t elements, NumberType type) {
    return grid_of(elements, type == NumberType::float32 ? Vector<float>::kSize : Vector<__half>::kSize).chunks;
}

void launch_loss(const Operands& o, const void* prediction, NumberType prediction_type, bool mean, double gradient_scale,
                 void* gradient, float* partial, float* losses, void* stream) {
    const auto cuda_stream = static_cast<cudaStream_t>(stream);
    if (prediction_type == NumberType::float32) loss_of<float>(partial, gradient, prediction, o, gradient_scale, cuda_stream);
    else if (prediction_type == NumberType::bfloat16)
        loss_of<__nv_bfloat16>(partial, gradient, prediction, o, gradient_scale, cuda_stream);
    else loss_of<__half>(partial, gradient, prediction, o, gradient_scale, cuda_stream);
    check_launch();
    const int64_t chunks = blocks_per_sample(o.elements, prediction_type);
    const int64_t sums = mean ? 1 : o.samples, count = mean ? o.samples * chunks : chunks;
    const double divisor = static_cast<double>(o.elements) * static_cast<double>(mean ? o.samples : 1);
    const int threads = static_cast<int>(std::min<int64_t>(kSumThreads, (count + kWarp - 1) / kWarp * kWarp));
    finish_kernel<<<blocks(sums), threads, 0, cuda_stream>>>(losses, partial, count, divisor);
    check_launch();
}

}  // namespace memfast
