// The Python module memfast._C: functions that take addresses, sizes and a thread count. No PyTorch headers.
// A family of kernels adds one bind_*.cpp file and one line here.
#include <pybind11/pybind11.h>

namespace py = pybind11;

void bind_machine(py::module_& m);
void bind_nearest(py::module_& m);
void bind_noise(py::module_& m);
void bind_products(py::module_& m);

PYBIND11_MODULE(_C, m) {
    m.doc() = "memfast's compiled CPU kernels on raw addresses; use memfast.ops instead.";
    bind_machine(m);
    bind_nearest(m);
    bind_noise(m);
    bind_products(m);
}
