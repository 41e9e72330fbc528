// The launches that memfast._C_cuda binds. Pointers are device addresses; nothing synchronises with the host.
#pragma once
#include <cstdint>

namespace memfast {

enum class Dtype : int { float32 = 0, bfloat16 = 1, float16 = 2 };

// Where a sample's clean values, coefficients and noises come from. `bytes`: x0 is a uint8 data set read by `indices`.
struct Operands {
    const void* x0;
    Dtype x0_dtype;
    bool bytes;
    const int64_t* indices;
    int64_t rows;   // of the data set
    int64_t width;  // > 0: reverse every `width` elements of samples whose augmentation word is odd
    const float* table;
    int64_t length;  // rows of the table
    const int64_t* timesteps;
    const int64_t* sample_ids;
    const int64_t* fixed_ids;  // null: the fixed term is left out
    const int64_t* key;
    int64_t batch, numel;
};

struct Draw {
    const int64_t* thresholds;  // null: timesteps are given
    int64_t count;
    const int64_t* positions;  // null: not stratified
    int64_t total;
    int64_t* timesteps;  // written
};

void launch_philox(int64_t* out, const int64_t* counter, const int64_t* key, int64_t count, void* stream);
void launch_standard_normal(float* out, const int64_t* sample_ids, int64_t batch, int64_t numel, const int64_t* key,
                            int stream_tag, int64_t offset, void* stream);
void launch_draw_timesteps(const Draw& draw, const int64_t* sample_ids, int64_t batch, const int64_t* key, void* stream);
void launch_noise(void* out, Dtype out_dtype, const Operands& operands, const Draw& draw, void* stream);

// Programs per sample of the loss: the size of `partial` is batch times this.
int64_t loss_chunks(int64_t numel, Dtype prediction_dtype);
// partial[b, chunk] = sum of residual**2; gradient (null: none) = float32(k_p * scale) * residual; then
// out[] = sums / count over samples, or over everything with `mean`.
void launch_loss(float* out, float* partial, void* gradient, const void* prediction, Dtype prediction_dtype,
                 const Operands& operands, bool mean, double scale, void* stream);

}  // namespace memfast
