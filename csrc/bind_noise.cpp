// The noise, loss, draw and EMA kernels for Python: addresses as integers, 0 for "none". A result of 1 means that a value
// is out of its range; the caller knows how to say which.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "cpu/ema_ops.h"
#include "cpu/noise_ops.h"

namespace py = pybind11;
using namespace memfast;

namespace {

using Address = uintptr_t;
using Release = py::call_guard<py::gil_scoped_release>;

template <class T> T* at(Address address) { return reinterpret_cast<T*>(address); }

Batch batch_of(int64_t samples, int64_t elements, Address table, int64_t rows, Address timesteps, Address sample_ids,
               Address fixed_ids, Address key, int threads) {
    return {samples, elements, at<const float>(table), rows, at<const int64_t>(timesteps), at<const int64_t>(sample_ids),
            at<const int64_t>(fixed_ids), at<const int64_t>(key), threads};
}

Data data_of(Address address, int type, Address indices, int64_t items, int64_t flip_width) {
    return {at<const void>(address), Number(type), at<const int64_t>(indices), items, flip_width};
}

}  // namespace

void bind_noise(py::module_& m) {
    m.def("philox", [](Address counters, Address keys, int64_t n, Address words) {
        philox_words(at<const int64_t>(counters), at<const int64_t>(keys), n, at<int64_t>(words));
    }, "n counters [n, 4] under keys [n, 2] to words [n, 4], all int64.");
    m.def("standard_normal", [](int64_t samples, int64_t numel, Address sample_ids, Address key, int stream,
                                int64_t offset, Address out, int threads) {
        const Batch b = batch_of(samples, numel, 0, 0, 0, sample_ids, 0, key, threads);
        return int(standard_normal(b, stream, offset, at<float>(out)));
    }, Release(), "float32 [samples, numel].");
    m.def("draw_timesteps", [](int64_t samples, Address thresholds, int64_t count, Address sample_ids, Address key,
                               Address positions, int64_t total, Address out) {
        const Batch b = batch_of(samples, 0, 0, 0, 0, sample_ids, 0, key, 1);
        const Draw draw{at<const int64_t>(thresholds), count, at<const int64_t>(positions), total};
        return int(draw_timesteps(b, draw, at<int64_t>(out)));
    }, "int64 [samples].");
    m.def("noise", [](int64_t samples, int64_t elements, Address table, int64_t rows, Address timesteps,
                      Address sample_ids, Address fixed_ids, Address key, Address data, int data_type, Address indices,
                      int64_t items, int64_t flip_width, int out_type, Address out, int threads) {
        const Batch b = batch_of(samples, elements, table, rows, timesteps, sample_ids, fixed_ids, key, threads);
        return int(mix_noise(b, data_of(data, data_type, indices, items, flip_width), Number(out_type), at<void>(out)));
    }, Release(), "x_in [samples, elements].");
    m.def("loss", [](int64_t samples, int64_t elements, Address table, int64_t rows, Address timesteps,
                     Address sample_ids, Address fixed_ids, Address key, Address data, int data_type, Address indices,
                     int64_t items, int64_t flip_width, Address prediction, int prediction_type, bool mean,
                     double gradient_scale, Address gradient, Address losses, int threads) {
        const Batch b = batch_of(samples, elements, table, rows, timesteps, sample_ids, fixed_ids, key, threads);
        return int(noise_loss(b, data_of(data, data_type, indices, items, flip_width), at<const void>(prediction),
                              Number(prediction_type), mean, gradient_scale, at<void>(gradient), at<float>(losses)));
    }, Release(), "Losses and, where its address is not 0, the gradient of the prediction.");
    m.def("ema", [](const std::vector<int64_t>& sizes, const std::vector<Address>& parameters,
                    const std::vector<int>& types, const std::vector<Address>& averages,
                    const std::vector<float>& weights, int threads) {
        static_assert(sizeof(int) == sizeof(Number) && sizeof(Address) == sizeof(void*), "read as such below");
        if (parameters.size() != sizes.size() || types.size() != sizes.size() ||
            averages.size() != sizes.size() * weights.size())
            throw std::invalid_argument("one size, type and parameter per tensor, one average per tensor and weight");
        py::gil_scoped_release release;
        ema_update(int64_t(sizes.size()), sizes.data(), reinterpret_cast<const void* const*>(parameters.data()),
                   reinterpret_cast<const Number*>(types.data()), reinterpret_cast<float* const*>(averages.data()),
                   weights.data(), int(weights.size()), threads);
    }, "averages += weight * (parameter - average), tensor by tensor, for every weight.");
    m.def("scale_copy", [](Address in, int64_t n, float factor, Address out, int threads) {
        scale_copy(at<const float>(in), n, factor, at<float>(out), threads);
    }, Release(), "out = factor * in (float32): the benchmarks' measure of memory bandwidth.");
}
