// The Python module memfast._C: the kernels of csrc/cpu on structs of addresses. No PyTorch headers, and no policy: the
// callers in memfast/ops/cpu own the memory and have checked every bound. README.md says which file holds which step.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bind.h"
#include "cpu/ema.h"
#include "cpu/float_environment.h"
#include "cpu/inner_products.h"
#include "cpu/isa.h"
#include "cpu/nearest.h"
#include "cpu/noise.h"
#include "cpu/openmp.h"
#include "cpu/pairs.h"

namespace py = pybind11;
using namespace memfast;

namespace {

// Every kernel runs without Python's lock, and in IEEE arithmetic on the calling thread too.
using Kernel = py::call_guard<py::gil_scoped_release, FloatEnvironment>;

template <class Compute>
auto run(const Compute& compute) {
    const py::gil_scoped_release release;
    const FloatEnvironment environment;
    return compute();
}

void bind_machine(py::module_& m) {
    m.def("isa_names", [] {
        std::vector<std::string> names;
        for (int level = 0; level <= static_cast<int>(best_isa()); ++level)
            names.emplace_back(isa_name(static_cast<Isa>(level)));
        return names;
    }, "Instruction sets that this processor runs, weakest first.");
    m.def("isa", [] { return isa_name(current_isa()); }, "The instruction set in use.");
    m.def("set_isa", [](const std::string& name) { set_isa(name); }, py::arg("name"),
          "Use one instruction set from now on (for tests and benchmarks); 'best' restores the default.");
    m.def("cpu_features", [] { return cpu_features(); }, "Names of the detected features.");
    m.def("use_openmp", &use_openmp, py::arg("enabled"),
          "False: run on threads of our own from now on, not on those of PyTorch's OpenMP runtime. No bit changes.");
    m.def("has_openmp", &has_openmp, "Whether kernels run on the threads of PyTorch's OpenMP runtime.");
}

// A status of 1 means that a value is out of its range; the caller finds out which and says so.
void bind_noise(py::module_& m) {
    m.def("philox", [](Address counters, Address keys, int64_t n, Address words) {
        philox_words(at<const int64_t>(counters), at<const int64_t>(keys), n, at<int64_t>(words));
    }, Kernel(), "n counters [n, 4] under keys [n, 2] to words [n, 4], all int64.");
    m.def("standard_normal", [](const Operands& operands, int stream, int64_t offset, Address out, int threads) {
        return int(standard_normal(operands, stream, offset, at<float>(out), threads));
    }, Kernel(), "float32 [samples, elements].");
    m.def("draw_timesteps", [](const Operands& operands, const Draw& draw) {
        return int(draw_timesteps(operands, draw));
    }, Kernel(), "int64 [samples].");
    m.def("noise", [](const Operands& operands, NumberType out_type, Address out, int threads) {
        return int(noise(operands, out_type, at<void>(out), threads));
    }, Kernel(), "x_in [samples, elements].");
    m.def("loss", [](const Operands& operands, Address prediction, NumberType prediction_type, bool mean,
                     double gradient_scale, Address gradient, Address losses, int threads) {
        return int(loss(operands, at<const void>(prediction), prediction_type, mean, gradient_scale, at<void>(gradient),
                        at<float>(losses), threads));
    }, Kernel(), "Losses and, where its address is not 0, the gradient of the prediction.");
}

void bind_ema(py::module_& m) {
    m.def("ema", [](const std::vector<int64_t>& sizes, const std::vector<Address>& parameters,
                    const std::vector<NumberType>& types, const std::vector<Address>& averages,
                    const std::vector<float>& weights, int threads) {
        const size_t n = sizes.size(), count = weights.size();
        if (parameters.size() != n || types.size() != n || averages.size() != n * count)
            throw std::invalid_argument("one size, type and parameter per tensor, one average per tensor and weight");
        std::vector<float*> stored(averages.size());
        for (size_t i = 0; i < averages.size(); ++i) stored[i] = at<float>(averages[i]);
        std::vector<EmaTensor> tensors(n);
        for (size_t i = 0; i < n; ++i)
            tensors[i] = {sizes[i], at<const void>(parameters[i]), types[i], stored.data() + i * count};
        ema_update(tensors.data(), int64_t(n), weights.data(), int(count), threads);
    }, Kernel(), "averages += weight * (parameter - average), tensor by tensor, for every weight.");
    m.def("scale_copy", [](Address in, int64_t n, float factor, Address out, int threads) {
        scale_copy(at<const float>(in), n, factor, at<float>(out), threads);
    }, Kernel(), "out = factor * in (float32): the benchmarks' measure of memory bandwidth.");
}

void bind_inner_products(py::module_& m) {
    py::class_<Vectors>(m, "Vectors", "The vectors of one tensor; each serves `repeat` consecutive rows.")
        .def(py::init([](Address address, NumberType type, int64_t stride, int64_t repeat) {
                 return Vectors{at<const void>(address), type, stride, repeat};
             }),
             py::arg("address"), py::arg("type"), py::arg("stride"), py::arg("repeat"));
    m.def("inner_products", [](const std::vector<Vectors>& tensors, int64_t rows, int64_t elements,
                               const std::vector<std::pair<int64_t, int64_t>>& pairs, Address out, int threads) {
        std::vector<Pair> chosen;
        for (const auto& [first, second] : pairs) chosen.push_back({first, second});
        inner_products(tensors.data(), int64_t(tensors.size()), rows, elements, chosen.data(), int64_t(chosen.size()),
                       at<double>(out), threads);
    }, Kernel(), "out float64 [pairs, rows]: the inner products of each pair of tensors, row by row.");
}

template <class T>
py::array_t<T> to_array(std::vector<T>&& values) {
    auto* owner = new std::vector<T>(std::move(values));
    return py::array_t<T>(static_cast<py::ssize_t>(owner->size()), owner->data(),
                          py::capsule(owner, [](void* p) { delete static_cast<std::vector<T>*>(p); }));
}

template <class T>
py::tuple to_tuple(Pairs<T>&& pairs) {
    return py::make_tuple(to_array(std::move(pairs.query)), to_array(std::move(pairs.index)),
                          to_array(std::move(pairs.distance)));
}

void bind_nearest(py::module_& m) {
    py::class_<RowsView>(m, "Rows", "A matrix of rows; the stride is in bytes.")
        .def(py::init([](Address address, int64_t count, int64_t length, int64_t stride, NumberType type) {
                 return RowsView{at<const void>(address), count, length, stride, type};
             }),
             py::arg("address"), py::arg("count"), py::arg("length"), py::arg("stride"), py::arg("type"));
    py::class_<NearestRequest>(m, "Search", "Queries, the rows to search, and what to leave out.")
        .def(py::init([](const RowsView& queries, const RowsView& points, int64_t k, Address exclude, int threads) {
                 return NearestRequest{queries, points, k, at<const int64_t>(exclude), threads};
             }),
             py::arg("queries"), py::arg("points"), py::arg("k"), py::arg("exclude"), py::arg("threads"));
    m.def("nearest_uint8", [](const NearestRequest& search, Address bound, Address distances, Address indices) {
        nearest_uint8(search, at<const int64_t>(bound), at<int64_t>(distances), at<int64_t>(indices));
        return 0;
    }, Kernel());
    m.def("nearest_float", [](const NearestRequest& search, Address bound, Address distances, Address indices) {
        return nearest_float(search, at<const double>(bound), at<double>(distances), at<int64_t>(indices));
    }, Kernel(), "How many queries needed more than the first screen.");
    m.def("range_search_uint8", [](const NearestRequest& search, int64_t radius_squared) {
        return to_tuple(run([&] { return range_search_uint8(search, radius_squared); }));
    });
    m.def("range_search_float", [](const NearestRequest& search, double radius_squared) {
        return to_tuple(run([&] { return range_search_float(search, radius_squared); }));
    });
    m.def("first_bad_row", [](const RowsView& rows, double largest, int threads) {
        return first_bad_row(rows, largest, threads);
    }, Kernel(), "The first row with NaN, infinity or a magnitude above `largest`; -1 if there is none.");
}

void bind_pairs(py::module_& m) {
    m.def("candidates_uint8", [](const NearestRequest& search, Address bound) {
        return to_tuple(run([&] { return candidates_uint8(search, at<const int64_t>(bound)); }));
    }, "The pairs at a squared distance of at most their query's bound.");
    m.def("pair_distances_uint8", [](const NearestRequest& search, Address starts, Address indices, Address distances) {
        pair_distances_uint8(search, {at<const int64_t>(starts), at<const int64_t>(indices)}, at<int64_t>(distances));
    }, Kernel());
    m.def("pair_distances_float", [](const NearestRequest& search, Address starts, Address indices, Address distances) {
        pair_distances_float(search, {at<const int64_t>(starts), at<const int64_t>(indices)}, at<double>(distances));
    }, Kernel());
}

}  // namespace

PYBIND11_MODULE(_C, m) {
    m.doc() = "memfast's compiled CPU kernels on raw addresses; use memfast.ops instead.";
    bind_operands(m);
    bind_machine(m);
    bind_noise(m);
    bind_ema(m);
    bind_inner_products(m);
    bind_nearest(m);
    bind_pairs(m);
}
