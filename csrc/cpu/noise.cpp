// x_in = (a_x * x0 + a_f * fixed) + a_n * noise.
#include "cpu/samples.h"

namespace memfast {
namespace {

Coefficients input_coefficients(const float* row) { return {row[0], row[1], row[2]}; }

}  // namespace

Status noise(const Operands& o, NumberType out_type, void* out, int threads) {
    if (bad_operands(o)) return Status::bad_value;
    const auto row_of = [&](int64_t sample) { return o.table + kTableColumns * o.timesteps[sample]; };
    const auto out_at = [&](int64_t element) { return static_cast<uint8_t*>(out) + element * size_of(out_type); };
    if (is_short(o)) {
        for_short_samples(o, threads, [&](int64_t sample, const float* x, const float* fixed, const float* fresh) {
            const Coefficients c = input_coefficients(row_of(sample));
            float value[kShort];
            for (int64_t j = 0; j < o.elements; ++j) value[j] = mixed(c, x[j], fixed ? fixed + j : nullptr, fresh[j]);
            kernels().narrow[int(out_type)](value, o.elements, out_at(sample * o.elements));
        });
        return Status::fine;
    }
    const Reader reader(o, out_type);
    const auto mix = kernels().mix[int(out_type)][reader.form()];
    const int64_t block = reader.direct() && !o.fixed_ids ? kChunk : kBlock;
    for_pieces(o, threads, [&](int64_t sample, int64_t first, int64_t n) {
        alignas(64) float x[kBlock], fixed[kBlock];
        for (const int64_t end = first + n; first < end; first += block) {
            const int64_t count = std::min(block, end - first);
            if (o.fixed_ids) kernels().normals(fixed_stream(o, sample), first / 4, count, fixed);
            mix(noise_stream(o, sample), first / 4, count, reader.read(sample, first, count, x),
                o.fixed_ids ? fixed : nullptr, input_coefficients(row_of(sample)), out_at(sample * o.elements + first));
        }
    });
    return Status::fine;
}

}  // namespace memfast
