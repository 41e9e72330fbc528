// The kernels of kernels.h for AVX-512.
#include <type_traits>

#include "cpu/vector_avx512.h"

#include "cpu/kernels_inc.h"

namespace memfast {
const Kernels& kernels_avx512() { return table_of_kernels<Avx512>(); }
}  // namespace memfast
