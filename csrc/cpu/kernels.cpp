#include "cpu/kernels.h"

#include "cpu/isa.h"

namespace memfast {

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
