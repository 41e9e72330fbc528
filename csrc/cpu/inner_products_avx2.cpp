// The products of inner_products_inc.h for AVX2.
#include <immintrin.h>

#include "cpu/inner_products_inc.h"

namespace memfast {
namespace {

struct Avx2Doubles {
    static constexpr int W = 4, rows = 1, most = 3;
    using D = __m256d;
    static D load(const float* p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
    static D load_double(const double* p) { return _mm256_loadu_pd(p); }
    static void store_double(double* p, D a) { _mm256_storeu_pd(p, a); }
    static D multiply_add(D a, D b, D c) { return _mm256_fmadd_pd(a, b, c); }
};

}  // namespace

const ProductKernel kProductsAvx2 = product_kernel_of<Avx2Doubles>();

}  // namespace memfast
