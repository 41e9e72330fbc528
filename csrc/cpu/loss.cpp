// residual = k_p * prediction - ((k_x * x0 + k_f * fixed) + k_n * noise): mean of its square, and the gradient.
#include "cpu/samples.h"

namespace memfast {
namespace {

Coefficients target_coefficients(const float* row) { return {row[4], row[5], row[6]}; }

}  // namespace

Status loss(const Operands& o, const void* prediction, NumberType prediction_type, bool mean, double gradient_scale,
            void* gradient, float* losses, int threads) {
    if (bad_operands(o)) return Status::bad_value;
    const int64_t size = size_of(prediction_type), chunks = std::max<int64_t>(1, (o.elements + kChunk - 1) / kChunk);
    std::vector<double> sums(o.samples * chunks, 0.0);
    const auto row_of = [&](int64_t sample) { return o.table + kTableColumns * o.timesteps[sample]; };
    const auto prediction_at = [&](int64_t i) { return static_cast<const uint8_t*>(prediction) + i * size; };
    const auto gradient_at = [&](int64_t i) { return gradient ? static_cast<uint8_t*>(gradient) + i * size : nullptr; };
    if (is_short(o)) {
        for_short_samples(o, threads, [&](int64_t sample, const float* x, const float* fixed, const float* fresh) {
            const float *row = row_of(sample), scale = float(double(row[3]) * gradient_scale);
            const Coefficients c = target_coefficients(row);
            float value[kShort];
            kernels().widen[int(prediction_type)](prediction_at(sample * o.elements), o.elements, value);
            double sum = 0;
            for (int64_t j = 0; j < o.elements; ++j) {
                const float r = row[3] * value[j] - mixed(c, x[j], fixed ? fixed + j : nullptr, fresh[j]);
                sum += double(r * r);
                value[j] = scale * r;
            }
            sums[sample] = sum;
            if (gradient) kernels().narrow[int(prediction_type)](value, o.elements, gradient_at(sample * o.elements));
        });
    } else {
        const Reader reader(o, prediction_type);
        const auto residual = kernels().residual[int(prediction_type)][reader.form()];
        const int64_t block = reader.direct() && !o.fixed_ids ? kChunk : kBlock;
        for_pieces(o, threads, [&](int64_t sample, int64_t first, int64_t n) {
            alignas(64) float x[kBlock], fixed[kBlock];
            const float* row = row_of(sample);
            double lanes[kLanes] = {}, sum = 0;
            const int64_t chunk = first / kChunk;
            for (const int64_t end = first + n; first < end; first += block) {
                const int64_t count = std::min(block, end - first), at = sample * o.elements + first;
                if (o.fixed_ids) kernels().normals(fixed_stream(o, sample), first / 4, count, fixed);
                residual(noise_stream(o, sample), first / 4, count, prediction_at(at),
                         reader.read(sample, first, count, x), o.fixed_ids ? fixed : nullptr, target_coefficients(row),
                         row[3], float(double(row[3]) * gradient_scale), gradient_at(at), lanes);
            }
            for (double lane : lanes) sum += lane;
            sums[sample * chunks + chunk] = sum;
        });
    }
    // In one order, whatever thread made a sum.
    double all = 0;
    for (int64_t sample = 0; sample < o.samples; ++sample) {
        double sum = 0;
        for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += sums[sample * chunks + chunk];
        sum /= double(std::max<int64_t>(1, o.elements));
        if (!mean) losses[sample] = float(sum);
        all += sum;
    }
    if (mean) *losses = float(all / double(std::max<int64_t>(1, o.samples)));
    return Status::fine;
}

}  // namespace memfast
