// Nearest rows and range search on raw addresses; 0 stands for "none".
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "cpu/nearest.h"

namespace py = pybind11;
using memfast::NearestRequest;
using memfast::NumberKind;
using memfast::RowsView;

namespace {

// (address, rows, D, bytes between rows, kind)
using RowsTuple = std::tuple<uintptr_t, int64_t, int64_t, int64_t, int>;

RowsView view(const RowsTuple& rows) {
    return {reinterpret_cast<const void*>(std::get<0>(rows)), std::get<1>(rows), std::get<2>(rows), std::get<3>(rows),
            static_cast<NumberKind>(std::get<4>(rows))};
}

template <class T>
T* at(uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

template <class T>
py::array_t<T> to_array(std::vector<T>&& values) {
    auto* owner = new std::vector<T>(std::move(values));
    return py::array_t<T>(static_cast<py::ssize_t>(owner->size()), owner->data(),
                          py::capsule(owner, [](void* p) { delete static_cast<std::vector<T>*>(p); }));
}

template <class T>
py::tuple to_tuple(memfast::Pairs<T>&& pairs) {
    return py::make_tuple(to_array(std::move(pairs.query)), to_array(std::move(pairs.index)),
                          to_array(std::move(pairs.distance)));
}

template <class Compute>
auto without_gil(const Compute& compute) {
    py::gil_scoped_release release;
    return compute();
}

}  // namespace

void bind_nearest(py::module_& m) {
    m.def("nearest_uint8", [](const RowsTuple& queries, const RowsTuple& points, int64_t k, uintptr_t bound,
                              uintptr_t exclude, uintptr_t distances, uintptr_t indices, int threads) {
        without_gil([&] {
            memfast::nearest_uint8({view(queries), view(points), k, at<int64_t>(exclude), threads}, at<int64_t>(bound),
                                   at<int64_t>(distances), at<int64_t>(indices));
        });
    });
    m.def("within_uint8", [](const RowsTuple& queries, const RowsTuple& points, int64_t radius, uintptr_t exclude,
                             int threads) {
        return to_tuple(without_gil([&] {
            return memfast::within_uint8({view(queries), view(points), 0, at<int64_t>(exclude), threads}, radius);
        }));
    });
    m.def("nearest_float", [](const RowsTuple& queries, const RowsTuple& points, int64_t k, uintptr_t bound,
                              uintptr_t exclude, uintptr_t distances, uintptr_t indices, int threads) {
        return without_gil([&] {
            return memfast::nearest_float({view(queries), view(points), k, at<int64_t>(exclude), threads},
                                          at<double>(bound), at<double>(distances), at<int64_t>(indices));
        });
    });
    m.def("within_float", [](const RowsTuple& queries, const RowsTuple& points, double radius, uintptr_t exclude,
                             int threads) {
        return to_tuple(without_gil([&] {
            return memfast::within_float({view(queries), view(points), 0, at<int64_t>(exclude), threads}, radius);
        }));
    });
    m.def("first_bad_row", [](const RowsTuple& rows, double largest, int threads) {
        return without_gil([&] { return memfast::first_bad_row(view(rows), largest, threads); });
    });
}
