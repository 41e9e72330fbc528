// Inner products of named pairs of vectors, on addresses.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "cpu/products.h"

namespace py = pybind11;
using namespace memfast;

void bind_products(py::module_& m) {
    m.def("inner_products", [](const std::vector<uintptr_t>& data, const std::vector<int>& types,
                               const std::vector<int64_t>& strides, const std::vector<int64_t>& every, int64_t rows,
                               int64_t elements, const std::vector<int64_t>& pairs, uintptr_t out, int threads) {
        const int64_t n = int64_t(data.size());
        if (int64_t(types.size()) != n || int64_t(strides.size()) != n || int64_t(every.size()) != n || pairs.size() % 2)
            throw std::invalid_argument("one address, type, stride and count per tensor, two tensors per pair");
        std::vector<Vectors> tensors(n);
        for (int64_t i = 0; i < n; ++i)
            tensors[i] = {reinterpret_cast<const void*>(data[i]), Number(types[i]), strides[i], every[i]};
        static_assert(sizeof(Pair) == 2 * sizeof(int64_t), "read as such below");
        py::gil_scoped_release release;
        inner_products(tensors.data(), n, rows, elements, reinterpret_cast<const Pair*>(pairs.data()),
                       int64_t(pairs.size() / 2), reinterpret_cast<double*>(out), threads);
    }, "out float64 [pairs, rows]: the inner products of each pair of tensors, row by row.");
}
