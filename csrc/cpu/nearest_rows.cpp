// The portable row kernels, and the choice among them.
#include "cpu/isa.h"
#include "cpu/nearest_rows_inc.h"

namespace memfast {

const RowKernel kRowsPortable{centre_row, to_grid, to_double, squared_distances, is_bad};

const RowKernel& row_kernel() {
#if MEMFAST_X86
    if (current_isa() >= Isa::avx512) return kRowsAvx512;
    if (current_isa() >= Isa::avx2) return kRowsAvx2;
#endif
    return kRowsPortable;
}

}  // namespace memfast
