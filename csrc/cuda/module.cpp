// The Python module memfast._C_cuda: kernels on device addresses and a stream's address. No PyTorch headers.
#include <pybind11/pybind11.h>

#include "cuda/kernels.h"

namespace py = pybind11;
using namespace memfast;

namespace {

template <typename T> T* at(uintptr_t address) { return reinterpret_cast<T*>(address); }

Operands operands_of(uintptr_t x0, int x0_dtype, uintptr_t indices, int64_t rows, int64_t width, uintptr_t table,
                     int64_t length, uintptr_t timesteps, uintptr_t sample_ids, uintptr_t fixed_ids, uintptr_t key,
                     int64_t batch, int64_t numel) {
    return {at<const void>(x0), static_cast<Dtype>(x0_dtype), indices != 0, at<const int64_t>(indices), rows, width,
            at<const float>(table), length, at<const int64_t>(timesteps), at<const int64_t>(sample_ids),
            at<const int64_t>(fixed_ids), at<const int64_t>(key), batch, numel};
}

Draw draw_of(uintptr_t thresholds, int64_t count, uintptr_t positions, int64_t total, uintptr_t timesteps) {
    return {at<const int64_t>(thresholds), count, at<const int64_t>(positions), total, at<int64_t>(timesteps)};
}

}  // namespace

PYBIND11_MODULE(_C_cuda, m) {
    m.doc() = "memfast's compiled CUDA kernels on raw addresses; use memfast.ops instead.";
    py::class_<Operands>(m, "Operands").def(py::init(&operands_of));
    py::class_<Draw>(m, "Draw").def(py::init(&draw_of));
    m.def("philox", [](uintptr_t out, uintptr_t counter, uintptr_t key, int64_t count, uintptr_t stream) {
        launch_philox(at<int64_t>(out), at<const int64_t>(counter), at<const int64_t>(key), count, at<void>(stream));
    });
    m.def("standard_normal", [](uintptr_t out, uintptr_t sample_ids, int64_t batch, int64_t numel, uintptr_t key,
                                int stream_tag, int64_t offset, uintptr_t stream) {
        launch_standard_normal(at<float>(out), at<const int64_t>(sample_ids), batch, numel, at<const int64_t>(key),
                               stream_tag, offset, at<void>(stream));
    });
    m.def("draw_timesteps", [](const Draw& draw, uintptr_t sample_ids, int64_t batch, uintptr_t key, uintptr_t stream) {
        launch_draw_timesteps(draw, at<const int64_t>(sample_ids), batch, at<const int64_t>(key), at<void>(stream));
    });
    m.def("noise", [](uintptr_t out, int dtype, const Operands& operands, const Draw& draw, uintptr_t stream) {
        launch_noise(at<void>(out), static_cast<Dtype>(dtype), operands, draw, at<void>(stream));
    });
    m.def("loss_chunks", [](int64_t numel, int dtype) { return loss_chunks(numel, static_cast<Dtype>(dtype)); });
    m.def("loss", [](uintptr_t out, uintptr_t partial, uintptr_t gradient, uintptr_t prediction, int dtype,
                     const Operands& operands, bool mean, double scale, uintptr_t stream) {
        launch_loss(at<float>(out), at<float>(partial), at<void>(gradient), at<const void>(prediction),
                    static_cast<Dtype>(dtype), operands, mean, scale, at<void>(stream));
    });
}
