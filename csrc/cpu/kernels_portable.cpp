// The kernels for any processor, and the choice among the instruction sets.
#include <type_traits>

#include "cpu/isa.h"
#include "cpu/vector_portable.h"

#include "cpu/kernels_inc.h"

namespace memfast {

const Kernels& kernels_portable() { return table_of_kernels<Portable>(); }

const Kernels& kernels() {
#if MEMFAST_X86
    switch (current_isa()) {
        case Isa::avx512: return kernels_avx512();
        case Isa::avx2: return kernels_avx2();
        default: break;
    }
#endif
    return kernels_portable();
}

}  // namespace memfast
