// What the two Python modules share: addresses as integers, the number types, and the structs of operands.h.
#pragma once
#include <pybind11/pybind11.h>

#include "operands.h"

namespace memfast {

using Address = uintptr_t;  // 0 stands for "none"

template <class T>
T* at(Address address) {
    return reinterpret_cast<T*>(address);
}

// An address that kernels read numbers of T at. Off their alignment: a ValueError that names the argument.
template <class T>
const T* aligned(Address address, const char* name) {
    if (address % alignof(T)) throw pybind11::value_error(name);
    return at<const T>(address);
}
inline const void* aligned(Address address, NumberType type, const char* name) {
    if (address % size_of(type)) throw pybind11::value_error(name);
    return at<const void>(address);
}

// module_local: memfast._C and memfast._C_cuda each have their own classes.
inline void bind_operands(pybind11::module_& m) {
    namespace py = pybind11;
    py::enum_<NumberType>(m, "NumberType", py::module_local())
        .value("float32", NumberType::float32)
        .value("bfloat16", NumberType::bfloat16)
        .value("float16", NumberType::float16)
        .value("uint8", NumberType::uint8)
        .value("float64", NumberType::float64);
    py::class_<Operands>(m, "Operands", py::module_local())
        .def(py::init([](int64_t samples, int64_t elements, Address x0, NumberType x0_type, Address table, int64_t rows,
                         Address timesteps, Address sample_ids, Address key, Address fixed_ids, Address indices,
                         int64_t items, int64_t flip_width) {
                 return Operands{samples, elements, aligned(x0, x0_type, "x0"), x0_type, aligned<float>(table, "table"), rows,
                                 aligned<int64_t>(timesteps, "timesteps"), aligned<int64_t>(sample_ids, "sample_ids"),
                                 aligned<int64_t>(key, "key"), aligned<int64_t>(fixed_ids, "fixed_ids"),
                                 aligned<int64_t>(indices, "indices"), items, flip_width};
             }),
             py::arg("samples"), py::arg("elements"), py::arg("x0"), py::arg("x0_type"), py::arg("table"),
             py::arg("rows"), py::arg("timesteps"), py::arg("sample_ids"), py::arg("key"), py::arg("fixed_ids"),
             py::arg("indices"), py::arg("items"), py::arg("flip_width"))
        .def(py::init([](int64_t samples, int64_t elements, Address sample_ids, Address key) {
                 Operands addresses{};
                 addresses.samples = samples;
                 addresses.elements = elements;
                 addresses.sample_ids = aligned<int64_t>(sample_ids, "sample_ids");
                 addresses.key = aligned<int64_t>(key, "key");
                 return addresses;
             }),
             "Nothing but addresses of noise: for normals and draws.", py::arg("samples"), py::arg("elements"),
             py::arg("sample_ids"), py::arg("key"));
    py::class_<Draw>(m, "Draw", py::module_local())
        .def(py::init([](Address thresholds, int64_t count, Address positions, int64_t total, Address timesteps) {
                 return Draw{aligned<int64_t>(thresholds, "thresholds"), count, aligned<int64_t>(positions, "positions"),
                             total, at<int64_t>(timesteps)};
             }),
             py::arg("thresholds"), py::arg("count"), py::arg("positions"), py::arg("total"), py::arg("timesteps"));
}

}  // namespace memfast
