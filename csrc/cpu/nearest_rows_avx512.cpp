// The row kernels of nearest_rows_inc.h for AVX-512.
#include "cpu/nearest_rows_inc.h"

namespace memfast {

const RowKernel kRowsAvx512{centre_row, to_grid, to_double, squared_distances, is_bad};

}  // namespace memfast
