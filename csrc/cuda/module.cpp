// The Python module memfast._C_cuda: the kernels of csrc/cuda on structs of device addresses, and a stream's address.
// No PyTorch headers; the callers in memfast/ops/cuda own the memory and have checked every bound.
#include <pybind11/pybind11.h>

#include "bind.h"
#include "cuda/kernels.h"

namespace py = pybind11;
using namespace memfast;

PYBIND11_MODULE(_C_cuda, m) {
    using Release = py::call_guard<py::gil_scoped_release>;
    m.doc() = "memfast's compiled CUDA kernels on raw addresses; use memfast.ops instead.";
    bind_operands(m);
    m.def("philox", [](Address counter, Address key, int64_t count, Address out, Address stream) {
        launch_philox(at<int64_t>(out), at<const int64_t>(counter), at<const int64_t>(key), count, at<void>(stream));
    }, Release());
    m.def("standard_normal", [](const Operands& operands, int stream_tag, int64_t offset, Address out, Address stream) {
        launch_standard_normal(operands, stream_tag, offset, at<float>(out), at<void>(stream));
    }, Release());
    m.def("draw_timesteps", [](const Operands& operands, const Draw& draw, Address stream) {
        launch_draw_timesteps(operands, draw, at<void>(stream));
    }, Release());
    m.def("noise", [](const Operands& operands, const Draw& draw, NumberType out_type, Address out, Address stream) {
        launch_noise(operands, draw, out_type, at<void>(out), at<void>(stream));
    }, Release());
    m.def("blocks_per_sample", &blocks_per_sample, py::arg("elements"), py::arg("type"));
    m.def("loss", [](const Operands& operands, Address prediction, NumberType prediction_type, bool mean,
                     double gradient_scale, Address gradient, Address partial, Address losses, Address stream) {
        launch_loss(operands, at<const void>(prediction), prediction_type, mean, gradient_scale, at<void>(gradient),
                    at<float>(partial), at<float>(losses), at<void>(stream));
    }, Release());
}
