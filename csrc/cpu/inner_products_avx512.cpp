// The products of inner_products_inc.h for AVX-512.
#include <immintrin.h>

#include "cpu/inner_products_inc.h"

namespace memfast {
namespace {

struct Avx512Doubles {
    static constexpr int W = 8, rows = 4, most = 5;
    using D = __m512d;
    static D load(const float* p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
    static D load_double(const double* p) { return _mm512_loadu_pd(p); }
    static void store_double(double* p, D a) { _mm512_storeu_pd(p, a); }
    static D multiply_add(D a, D b, D c) { return _mm512_fmadd_pd(a, b, c); }
};

}  // namespace

const ProductKernel kProductsAvx512 = product_kernel_of<Avx512Doubles>();

}  // namespace memfast
