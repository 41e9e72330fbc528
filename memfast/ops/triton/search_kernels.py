"""Triton kernels of the exact search over bytes: int8 tensor cores, distances that stay in registers, hits that leave.

A squared distance is ``|x|^2 + |y|^2 - 2 x.y`` of the bytes shifted by 128, in integers: exact. In int32 up to
D = 33,025; beyond, products are added in int32 over SEGMENT elements at a time and then in int64 (WIDE).
"""

import triton
import triton.language as tl

MISSING = tl.constexpr(2**63 - 1)
_INT32_MAX = tl.constexpr(2**31 - 1)


@triton.jit
def shift_kernel(out, norms, values, stride, length, padded, BLOCK: tl.constexpr):
    """out[row] = int8(byte - 128), zeros up to ``padded`` elements; norms[row] = its sum of squares."""
    row = tl.program_id(0).to(tl.int64)
    total = tl.zeros([BLOCK], tl.int64)
    column = tl.arange(0, BLOCK)
    while tl.min(column, 0) < padded:
        inside = column < length
        byte = tl.load(values + row * stride + column, mask=inside, other=128).to(tl.int32) - 128
        tl.store(out + row * padded + column, byte.to(tl.int8), mask=column < padded)
        total += (byte * byte).to(tl.int64)
        column += BLOCK
    tl.store(norms + row, tl.sum(total, 0).to(norms.dtype.element_ty))


@triton.jit
def scan_kernel(
    kept, counts, queries, rows, query_norms, row_norms, limits, exclude,
    query_count, row_count, first_index, packing,
    LENGTH: tl.constexpr, SEGMENT: tl.constexpr,
    SPLITS: tl.constexpr, GROUP: tl.constexpr, CAPACITY: tl.constexpr, DENSE: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Rows nearer than their query's limit.

    ``rows`` hold the block's rows ``first_index`` to ``first_index + row_count``, LENGTH elements each, a
    multiple of BLOCK_D and with WIDE of SEGMENT.
    DENSE: kept ``[Q, row_count]`` holds every distance, its dtype's maximum where it is not below the limit.
    Otherwise: kept ``[Q, SPLITS, CAPACITY]`` holds the hits of each split of the rows as int64
    ``distance << packing | index``, and counts ``[Q, SPLITS]`` their number, which may exceed the capacity: then some
    were dropped. Programs of GROUP query tiles and all splits run side by side, so that both operands come from the
    L2 cache.
    """
    query_tiles = tl.cdiv(query_count, BLOCK_Q)
    group = tl.program_id(0) // (GROUP * SPLITS)
    place = tl.program_id(0) % (GROUP * SPLITS)
    group_size = tl.minimum(query_tiles - group * GROUP, GROUP)
    split = place // group_size
    first_query = (group * GROUP + place % group_size).to(tl.int64) * BLOCK_Q

    query = first_query + tl.arange(0, BLOCK_Q)
    is_query = query < query_count
    step = tl.arange(0, BLOCK_D)
    local_query = tl.minimum(tl.arange(0, BLOCK_Q), query_count - 1 - first_query.to(tl.int32))
    x_pointers = queries + first_query * LENGTH + local_query[:, None] * LENGTH + step[None, :]
    x_norm = tl.load(query_norms + query, mask=is_query, other=0)
    limit = tl.load(limits + query, mask=is_query, other=0)
    left_out = tl.load(exclude + query, mask=is_query, other=-1)
    local = tl.arange(0, BLOCK_M)
    count = tl.zeros([BLOCK_Q], tl.int32)
    hits = kept + (query * SPLITS + split) * CAPACITY

    tile = split
    while tile * BLOCK_M < row_count:
        first = tile.to(tl.int64) * BLOCK_M
        local_row = tl.minimum(local, row_count - 1 - tile * BLOCK_M)
        y_pointers = rows + first * LENGTH + local_row[:, None] * LENGTH + step[None, :]
        if WIDE:
            product = tl.zeros([BLOCK_Q, BLOCK_M], tl.int64)
            for segment in range(0, LENGTH, SEGMENT):
                part = tl.zeros([BLOCK_Q, BLOCK_M], tl.int32)
                for d in range(0, SEGMENT, BLOCK_D):
                    x = tl.load(x_pointers + segment + d)
                    part = tl.dot(x, tl.trans(tl.load(y_pointers + segment + d)), part, out_dtype=tl.int32)
                product += part.to(tl.int64)
        else:
            product = tl.zeros([BLOCK_Q, BLOCK_M], tl.int32)
            for d in range(0, LENGTH, BLOCK_D):
                product = tl.dot(
                    tl.load(x_pointers + d), tl.trans(tl.load(y_pointers + d)), product, out_dtype=tl.int32
                )
        row = first + local
        is_row = row < row_count
        y_norm = tl.load(row_norms + row, mask=is_row, other=0)
        distance = x_norm[:, None] + y_norm[None, :] - 2 * product
        own = tl.minimum(tl.maximum(left_out - first_index - first, -1), BLOCK_M).to(tl.int32)
        hit = (distance < limit[:, None]) & (local < row_count - first)[None, :] & (own[:, None] != local[None, :])
        nothing = MISSING if WIDE else _INT32_MAX
        left = tl.where(hit, distance, nothing)
        if DENSE:
            corner = kept + first_query * row_count + first
            offsets = tl.arange(0, BLOCK_Q)[:, None] * row_count + local[None, :]
            tl.store(corner + offsets, left, mask=is_query[:, None] & is_row[None, :])
        else:
            nearest = tl.min(left, 1)
            while tl.min(nearest, 0) < nothing:
                # One hit of every query that has one leaves the tile: the nearest, of equals the first.
                column = tl.min(tl.where(left == nearest[:, None], local[None, :], BLOCK_M), 1)
                found = nearest < nothing
                packed = (nearest.to(tl.int64) << packing) | (first_index + first + column.to(tl.int64))
                tl.store(hits + count, packed, mask=found & is_query & (count < CAPACITY))
                count += found.to(tl.int32)
                left = tl.where(local[None, :] == column[:, None], nothing, left)
                nearest = tl.min(left, 1)
        tile += SPLITS
    if not DENSE:
        tl.store(counts + query * SPLITS + split, count, mask=is_query)
