// The products of a few queries with a panel of points, for each instruction set. Bytes only: what they stand for
// (pixels, or floats on a grid) is the caller's business.
#pragma once
#include <cstdint>
#include <cstring>

namespace memfast {

// A tile is at most `rows` queries times `columns` points. Both are packed in steps of `group` dimensions:
// queries [step][row][group], points [step][column][group], zeros where there is no row, column or dimension.
struct TileKernel {
    static constexpr int kMaxRows = 8;
    static constexpr int kMaxColumns = 64;

    const char* name;
    int rows;
    int columns;
    int group;
    int bytes;  // of one packed number

    // rows[i] are the bytes of row i, of length dim; count of them are there.
    void (*pack_queries)(const uint8_t* const* rows, int count, int64_t dim, void* packed);
    void (*pack_points)(const uint8_t* const* rows, int count, int64_t dim, void* packed);

    // out[i * columns + j] = sum over the dimensions of query_i * (point_j - 128), modulo 2**32.
    void (*multiply)(const void* queries, int count, const void* points, int64_t steps, int32_t* out);

    // keys[j] = base + norms[j] - 2 * products[j], modulo 2**32; the result has bit j set where keys[j] < limit.
    uint64_t (*integer_keys)(const int32_t* products, const uint32_t* norms, uint32_t base, uint32_t limit,
                             uint32_t* keys);

    // The bits of the float lower bounds, negative ones raised to zero; compared as integers, which is their order.
    uint64_t (*float_keys)(const int32_t* products, const struct FloatPanel& points, const struct FloatQuery& query,
                           uint32_t limit, uint32_t* keys);

    int64_t steps(int64_t dim) const { return (dim + group - 1) / group; }
    int64_t query_bytes(int64_t dim) const { return steps(dim) * rows * group * bytes; }
    int64_t point_bytes(int64_t dim) const { return steps(dim) * columns * group * bytes; }
};

// Side data of a panel of float points and of a float query, for the lower bound of docs/exactness.md:
// query.norm + norm - (query.scale * scale) * (product - offset) - query.error * length - query.length * error.
struct FloatPanel {
    alignas(64) int32_t offset[TileKernel::kMaxColumns];
    alignas(64) float scale[TileKernel::kMaxColumns];
    alignas(64) float norm[TileKernel::kMaxColumns];
    alignas(64) float length[TileKernel::kMaxColumns];
    alignas(64) float error[TileKernel::kMaxColumns];
};
struct FloatQuery {
    float scale, norm, length, error;
};

// The best kernel of the instruction set in use.
const TileKernel& tile_kernel();

extern const TileKernel kTilePortable;
#if MEMFAST_X86
extern const TileKernel kTileAvx2;
extern const TileKernel kTileAvx512Vnni;
#endif

// Keys from products, as plain loops over a constant number of columns. Each instruction set compiles its own copy, so they
// are in an unnamed namespace.
namespace {

template <int columns>
uint64_t mask_below(const uint32_t* keys, uint32_t limit) {
    uint32_t any = 0;
    for (int j = 0; j < columns; ++j) any |= keys[j] < limit;
    if (!any) return 0;
    uint64_t mask = 0;
    for (int j = 0; j < columns; ++j) mask |= static_cast<uint64_t>(keys[j] < limit) << j;
    return mask;
}

template <int columns>
uint64_t integer_keys(const int32_t* products, const uint32_t* norms, uint32_t base, uint32_t limit, uint32_t* keys) {
    for (int j = 0; j < columns; ++j) keys[j] = base + norms[j] - 2u * static_cast<uint32_t>(products[j]);
    return mask_below<columns>(keys, limit);
}

template <int columns>
uint64_t float_keys(const int32_t* products, const FloatPanel& p, const FloatQuery& q, uint32_t limit, uint32_t* keys) {
    float bound[columns];
    for (int j = 0; j < columns; ++j) {
        const float product = static_cast<float>(
            static_cast<int32_t>(static_cast<uint32_t>(products[j]) - static_cast<uint32_t>(p.offset[j])));
        const float slack = q.error * p.length[j] + q.length * p.error[j];
        const float value = ((q.norm + p.norm[j]) - (q.scale * p.scale[j]) * product) - slack;
        bound[j] = value > 0.0f ? value : 0.0f;
    }
    std::memcpy(keys, bound, sizeof(bound));
    return mask_below<columns>(keys, limit);
}

}  // namespace

}  // namespace memfast
