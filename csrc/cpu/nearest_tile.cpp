// The portable tile, and the choice among the tiles.
#include "cpu/nearest_tile.h"

#include "cpu/isa.h"

namespace memfast {
namespace {

// Rows lie in pieces of 64 numbers, over which compilers know to use their multiply-add of 16-bit numbers.
constexpr int kRows = 4, kColumns = 16, kGroup = 64;

template <int width, int shift>
void pack(const uint8_t* const* rows, int count, int64_t dim, void* packed) {
    auto* out = static_cast<int16_t*>(packed);
    const int64_t steps = (dim + kGroup - 1) / kGroup;
    for (int64_t s = 0; s < steps; ++s) {
        for (int i = 0; i < width; ++i, out += kGroup) {
            const int64_t here = i < count ? (dim - s * kGroup < kGroup ? dim - s * kGroup : kGroup) : 0;
            for (int64_t d = 0; d < here; ++d) out[d] = static_cast<int16_t>(rows[i][s * kGroup + d] - shift);
            for (int64_t d = here; d < kGroup; ++d) out[d] = 0;
        }
    }
}

void multiply(const void* queries, int count, const void* points, int64_t steps, int32_t* out) {
    const auto* a = static_cast<const int16_t*>(queries);
    const auto* b = static_cast<const int16_t*>(points);
    uint32_t sums[kRows][kColumns] = {};
    for (int64_t s = 0; s < steps; ++s, a += kRows * kGroup, b += kColumns * kGroup) {
        for (int i = 0; i < count; ++i) {
            const int16_t* x = a + i * kGroup;
            for (int j = 0; j < kColumns; ++j) {
                const int16_t* y = b + j * kGroup;
                int32_t sum = 0;
                for (int d = 0; d < kGroup; ++d) sum += x[d] * y[d];
                sums[i][j] += static_cast<uint32_t>(sum);
            }
        }
    }
    std::memcpy(out, sums, sizeof(uint32_t) * count * kColumns);
}

}  // namespace

const TileKernel kTilePortable{"portable", kRows, kColumns, kGroup, 2, pack<kRows, 0>, pack<kColumns, 128>,
                               multiply, integer_keys<kColumns>, float_keys<kColumns>};

const TileKernel& tile_kernel() {
#if MEMFAST_X86
    if (has_avx512_vnni()) return kTileAvx512Vnni;
    if (current_isa() >= Isa::avx2) return kTileAvx2;
#endif
    return kTilePortable;
}

}  // namespace memfast
