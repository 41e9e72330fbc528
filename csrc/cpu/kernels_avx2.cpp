// The kernels of kernels.h for AVX2.
#include <type_traits>

#include "cpu/vector_avx2.h"

#include "cpu/kernels_inc.h"

namespace memfast {
const Kernels& kernels_avx2() { return table_of_kernels<Avx2>(); }
}  // namespace memfast
