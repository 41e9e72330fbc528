#include <type_traits>

#include "cpu/vector_portable.h"

#include "cpu/kernels_inc.h"

namespace memfast {
const Kernels& kernels_portable() { return table_of_kernels<Portable>(); }
}  // namespace memfast
