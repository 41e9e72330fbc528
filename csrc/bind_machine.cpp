// What this processor offers, and which instruction set the kernels use.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "cpu/isa.h"

namespace py = pybind11;

void bind_machine(py::module_& m) {
    m.def("isa_names", [] {
        std::vector<std::string> names;
        for (int level = 0; level <= static_cast<int>(memfast::best_isa()); ++level)
            names.emplace_back(memfast::isa_name(static_cast<memfast::Isa>(level)));
        return names;
    }, "Instruction sets that this processor runs, weakest first.");
    m.def("isa", [] { return memfast::isa_name(memfast::current_isa()); }, "The instruction set in use.");
    m.def("set_isa", [](const std::string& name) { memfast::set_isa(name); }, py::arg("name"),
          "Use one instruction set from now on (for tests and benchmarks); 'best' restores the default.");
    m.def("cpu_features", [] { return memfast::cpu_features(); }, "Names of the detected features.");
}
