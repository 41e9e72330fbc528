"""Exact nearest neighbours of bytes on a GPU: a growing prefix of the rows sets each query's limit for the rest.

The first rows give every query a k-th distance. From then on only rows below it can matter; they leave the tensor-core
tiles one by one, few per query, and after each stretch of rows (twice as long as all before it) the limits are renewed.
Rows come in ascending order, so a later row at the limit loses the tie and ``<`` suffices. A stretch that has more hits
than fit is halved and repeated, down to the size where every distance is kept: the result is always exact.

A squared distance is ``|x|^2 + |y|^2 - 2 x.y`` of the bytes shifted by 128, in integers (int8 tensor cores). In
int32 up to D = 33,025; beyond, products are added in int32 over SEGMENT elements at a time and then in int64
(WIDE). Distances stay in registers, hits leave.
"""

from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl

from memfast.foundation.errors import InputError
from memfast.ops.registry import implementation
from memfast.ops.rows import Rows
from memfast.ops.triton.launch import on

# The largest D whose squared distances fit into an int32; and whose rows of a tile lie within 2**31 bytes.
NARROW_LENGTH, LONGEST = 33025, 1 << 24
INT32_MAX, INT64_MAX = 2**31 - 1, 2**63 - 1
MISSING, _INT32_MAX = tl.constexpr(INT64_MAX), tl.constexpr(INT32_MAX)
# Rows of a stretch whose distances are all kept; and of the longest stretch.
DENSE_ROWS, LONGEST_STRETCH = 4096, 1 << 18
QUERIES_PER_BATCH = 8192
# Beyond this k a hit per query leaves a tile so often that keeping all distances is simpler and no slower.
FUSED_K = 256
SPLITS, GROUP = 8, 16
# Elements of a wide product that are added in int32.
SEGMENT = 4096
SHIFT_BLOCK = 1024


@dataclass(frozen=True)
class Tile:
    """Block sizes and launch options of one sort of tile."""

    queries: int
    rows: int
    length: int
    warps: int
    stages: int


# The largest that compile without spills (128 x 256 spills a few bytes). A wide tile holds int64 sums.
LARGE, SMALL, WIDE = Tile(128, 128, 128, 8, 4), Tile(128, 128, 64, 8, 3), Tile(64, 64, 128, 8, 3)
# Stored distances change their layout on the way out, which takes registers.
DENSE = Tile(64, 64, 64, 8, 3)
LARGE_SHARED_MEMORY = 132 * 1024


def nearest(
    queries: Rows, block: Rows, k: int, bound: np.ndarray | None, exclude: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """The k nearest rows of ``block``; float dtypes go to the CPU's certified search."""
    if not queries.dtype == block.dtype == "uint8":
        return implementation("nearest", torch.device("cpu"))(_to_cpu(queries), _to_cpu(block), k, bound, exclude)
    search = _Search(queries, block, bound, exclude)
    best = search.nearest(k)
    missing = best == INT64_MAX
    distances = torch.where(missing, INT64_MAX, best >> search.packing)
    indices = torch.where(missing, -1, best & ((1 << search.packing) - 1))
    return distances.cpu().numpy(), indices.cpu().numpy(), 0


def range_search(
    queries: Rows, block: Rows, radius_squared: float, exclude: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs within a radius, sorted by query, distance and index."""
    if not queries.dtype == block.dtype == "uint8":
        compute = implementation("range_search", torch.device("cpu"))
        return compute(_to_cpu(queries), _to_cpu(block), radius_squared, exclude)
    bound = np.full(queries.shape[0], int(min(radius_squared, 2.0**62)), np.int64)
    search = _Search(queries, block, bound, exclude)
    return search.range_search()


class _Search:
    """One search: shifted queries with their norms, and what the kernels need to know of the problem."""

    def __init__(self, queries: Rows, block: Rows, bound: np.ndarray | None, exclude: np.ndarray | None) -> None:
        self.rows = torch.as_tensor(block.values)
        self.device = self.rows.device
        self.count, self.length = queries.shape
        self.packing = max(1, (len(self.rows) - 1).bit_length())
        self.wide = self.length > NARROW_LENGTH
        if self.length > LONGEST:
            raise InputError("block", expected=f"rows of at most {LONGEST} bytes on a GPU", received=f"{self.length}")
        self.tile = WIDE if self.wide else _tile(self.device)
        self.number = torch.int64 if self.wide else torch.int32
        self.x, self.x_norms = self._shifted(torch.as_tensor(queries.values))
        self.none = INT64_MAX if self.wide else INT32_MAX
        limit = np.full(self.count, self.none) if bound is None else np.minimum(bound, self.none - 1) + 1
        self.limits = torch.from_numpy(limit).to(self.device, self.number)
        left_out = np.full(self.count, -1, np.int64) if exclude is None else exclude
        self.exclude = torch.from_numpy(left_out).to(self.device)

    def nearest(self, k: int) -> torch.Tensor:
        """Packed neighbours int64 ``[Q, k]``."""
        best = torch.full((self.count, k), INT64_MAX, dtype=torch.int64, device=self.device)
        start = 0
        while start < len(self.rows):
            fused = start > 0 and k <= FUSED_K
            stop = min(len(self.rows), start + (min(max(start, DENSE_ROWS), LONGEST_STRETCH) if fused else DENSE_ROWS))
            y, y_norms = self._shifted(self.rows[start:stop])
            for first in range(0, self.count, QUERIES_PER_BATCH):
                self._stretch(best, slice(first, min(first + QUERIES_PER_BATCH, self.count)), y, y_norms, start)
            start = stop
        return best

    def range_search(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(query, index, squared distance) of all rows below the limits."""
        found = [(torch.empty(0, dtype=torch.int64, device=self.device),) * 2]
        for first in range(0, self.count, QUERIES_PER_BATCH):
            batch = slice(first, min(first + QUERIES_PER_BATCH, self.count))
            for start in range(0, len(self.rows), DENSE_ROWS):
                y, y_norms = self._shifted(self.rows[start : start + DENSE_ROWS])
                packed = self._dense(batch, self.limits[batch], y, y_norms, start)
                query, row = (packed != INT64_MAX).nonzero(as_tuple=True)
                found.append((query + first, packed[query, row]))
        query, packed = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
        order = np.lexsort((packed, query))
        query, packed = query[order], packed[order]
        return query, packed & ((1 << self.packing) - 1), packed >> self.packing

    def _stretch(self, best, batch, y, y_norms, start):
        """Merge the rows ``start`` to ``start + len(y)`` into ``best[batch]``."""
        k = best.shape[1]
        kth = best[batch, -1] >> self.packing
        limits = torch.minimum(self.limits[batch], kth.clamp(max=torch.iinfo(self.number).max).to(self.number))
        if len(y) <= DENSE_ROWS:
            candidates = self._dense(batch, limits, y, y_norms, start)
        else:
            capacity = max(64, triton.next_power_of_2(k))
            candidates, counts = self._hits(batch, limits, y, y_norms, start, capacity)
            if int(counts.max()) > capacity:
                half = len(y) // 2
                self._stretch(best, batch, y[:half], y_norms[:half], start)
                self._stretch(best, batch, y[half:], y_norms[half:], start + half)
                return
        merged = torch.cat((best[batch], candidates), 1)
        best[batch] = torch.topk(merged, k, largest=False, sorted=True).values

    def _dense(self, batch, limits, y, y_norms, start):
        kept = torch.empty(batch.stop - batch.start, len(y), dtype=self.number, device=self.device)
        self._scan(kept, kept, batch, limits, y, y_norms, start, 1, True)
        index = torch.arange(start, start + len(y), device=self.device)
        return torch.where(kept == self.none, INT64_MAX, (kept.long() << self.packing) | index)

    def _hits(self, batch, limits, y, y_norms, start, capacity):
        shape = (batch.stop - batch.start, SPLITS)
        kept = torch.full((*shape, capacity), INT64_MAX, dtype=torch.int64, device=self.device)
        counts = torch.empty(shape, dtype=torch.int32, device=self.device)
        self._scan(kept, counts, batch, limits, y, y_norms, start, capacity, False)
        return kept.flatten(1), counts

    def _scan(self, kept, counts, batch, limits, y, y_norms, start, capacity, dense):
        tile = DENSE if dense and not self.wide else self.tile
        count = batch.stop - batch.start
        with on(self.rows):
            scan_kernel[(triton.cdiv(count, tile.queries) * SPLITS,)](
                kept, counts, self.x[batch], y, self.x_norms[batch], y_norms, limits, self.exclude[batch],
                count, len(y), start, self.packing, y.shape[1], SEGMENT, SPLITS, GROUP, capacity, dense, self.wide,
                tile.queries, tile.rows, tile.length,
                num_warps=tile.warps, num_stages=tile.stages,
            )  # fmt: skip

    def _shifted(self, values):
        """(int8 rows padded to whole blocks, their squared norms) of bytes."""
        unit = SEGMENT if self.wide else self.tile.length
        padded = triton.cdiv(self.length, unit) * unit
        out = torch.empty(len(values), padded, dtype=torch.int8, device=self.device)
        norms = torch.empty(len(values), dtype=self.number, device=self.device)
        if len(values):
            with on(values):
                shift_kernel[(len(values),)](out, norms, values, values.stride(0), self.length, padded, SHIFT_BLOCK)
        return out, norms


def _tile(device: torch.device) -> Tile:
    if device.type != "cuda":
        return SMALL
    index = torch.cuda.current_device() if device.index is None else device.index
    shared = triton.runtime.driver.active.utils.get_device_properties(index)["max_shared_mem"]
    return LARGE if shared >= LARGE_SHARED_MEMORY else SMALL


def _to_cpu(rows: Rows) -> Rows:
    if not isinstance(rows.values, torch.Tensor):
        return rows
    values = rows.values.cpu()
    return Rows((values.view(torch.uint16) if rows.dtype == "bfloat16" else values).numpy(), rows.dtype, rows.name)


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
