// The portable tile, and the choice among the tiles.
#include "cpu/nearest_tile.h"

#include "cpu/isa.h"
#include "cpu/nearest_keys.h"

namespace memfast {
namespace {

constexpr int kRows = 4, kColumns = 16;

void multiply(const void* queries, int count, const void* points, int64_t steps, int32_t* out) {
    const auto* a = static_cast<const int16_t*>(queries);
    const auto* b = static_cast<const int16_t*>(points);
    for (int i = 0; i < count; ++i) {
        uint32_t sums[kColumns] = {};
        for (int64_t s = 0; s < steps; ++s) {
            const int32_t x0 = a[(s * kRows + i) * 2], x1 = a[(s * kRows + i) * 2 + 1];
            const int16_t* y = b + s * kColumns * 2;
            for (int j = 0; j < kColumns; ++j) sums[j] += static_cast<uint32_t>(x0 * y[2 * j] + x1 * y[2 * j + 1]);
        }
        std::memcpy(out + i * kColumns, sums, sizeof(sums));
    }
}

}  // namespace

const TileKernel kTilePortable{"portable", kRows, kColumns, 2, 2, pack_pairs<kRows, 0>, pack_pairs<kColumns, 128>,
                               multiply, integer_keys<kColumns>, float_keys<kColumns>};

const TileKernel& tile_kernel() {
#if MEMFAST_X86
    if (has_avx512_vnni()) return kTileAvx512Vnni;
    if (current_isa() >= Isa::avx2) return kTileAvx2;
#endif
    return kTilePortable;
}

}  // namespace memfast
