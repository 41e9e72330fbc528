"""Exact search by the largest inner product: screened in float64 by matrix products, certified, computed again.

A matrix product adds in an order that depends on the blocks. So it only proposes: every row whose product may reach the
k-th largest, by the error bound of a float64 sum, is computed again in one fixed order. The result does not depend on
block sizes or processes. Products of uint8 rows are exact integers.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from memfast.foundation.errors import InputError
from memfast.foundation.progress import Progress
from memfast.neighbors.inputs import SearchInputs, block_sizes
from memfast.neighbors.precision import Converter
from memfast.neighbors.result import Neighbors
from memfast.neighbors.stream import read_ahead, units
from memfast.neighbors.topk import NOBODY, RunningTopK, fill_value, merge_ranks
from memfast.runtime.distributed import Ranks

METRIC = "inner_product"
LANES = 8
ROUNDING = 2.0**-53
QUERIES_AT_ONCE = 256
PAIRS_AT_ONCE = 1 << 22
# Integers below it are exact in float64, and so is their sum in any order.
EXACT_INTEGERS = 2.0**53
GREATEST_BYTE_SQUARED = 255.0**2


def inner_product_knn(
    queries: Any, database: Any, k: int, *, exclude_self: bool, memory: int | None, progress: bool, ranks: Ranks
) -> Neighbors:
    """The search behind ``knn(..., metric="inner_product")``."""
    with ranks.fail_together():
        inputs = SearchInputs.open(queries, database, METRIC)
        inputs.check_k(k, exclude_self)
        if inputs.streamed:
            raise InputError(
                "database", expected="data that can be read by index", received="an iterator", do="Give shards."
            )
    inputs.check_same_on(ranks, {"k": k, "metric": METRIC, "exclude_self": exclude_self})
    length, count = inputs.database.length, inputs.queries.length
    share = length * ranks.rank // ranks.size, length * (ranks.rank + 1) // ranks.size
    # The lists hold negative products: ascending, as lists of distances are.
    found = RunningTopK(count, k, inputs.distance)
    with ranks.fail_together(), Progress("searching", None, "rows", show=progress and ranks.rank == 0) as bar:
        for first, rows in _query_groups(inputs, memory, k):
            part = RunningTopK(len(rows), k, inputs.distance)
            for offset, block in _blocks(inputs, memory, k, share):
                ranks.check_peers()
                _search_block(part, rows, block, first if exclude_self else None, offset, inputs.integers)
                bar.advance(len(block))
            found.squared_distances[first : first + len(rows)] = part.squared_distances
            found.indices[first : first + len(rows)] = part.indices
    negative, indices = merge_ranks(ranks, found.squared_distances, found.indices, k)
    return Neighbors(
        _squared_distances(inputs, indices), indices, "exact" if inputs.integers else "certified", METRIC,
        inner_products=-negative,
    )  # fmt: skip


def _query_groups(inputs: SearchInputs, memory: int | None, k: int) -> Iterator[tuple[int, np.ndarray]]:
    step = min(QUERIES_AT_ONCE, _sizes(inputs, memory, k).queries) if inputs.queries.length else 1
    convert = Converter(inputs.queries, METRIC)
    for first in range(0, inputs.queries.length, step):
        raw = inputs.queries.read(first, min(first + step, inputs.queries.length))
        yield first, convert(raw, first).astype(np.float64)


def _blocks(
    inputs: SearchInputs, memory: int | None, k: int, share: tuple[int, int]
) -> Iterator[tuple[int, np.ndarray]]:
    convert, offset = Converter(inputs.database, METRIC), share[0]
    rows = min(_sizes(inputs, memory, k).rows, max(1, PAIRS_AT_ONCE // QUERIES_AT_ONCE))
    for raw in read_ahead(units(inputs.database, *share, rows)):
        yield offset, convert(raw, offset).astype(np.float64)
        offset += len(raw)


def _sizes(inputs: SearchInputs, memory: int | None, k: int) -> Any:
    item = inputs.database.dtype.itemsize
    return block_sizes(
        memory, queries=inputs.queries.length, rows=inputs.database.length, width=inputs.database.width, k=k,
        query_item=8, row_item=item + 8,
    )  # fmt: skip


def _search_block(
    running: RunningTopK, queries: np.ndarray, block: np.ndarray, own: int | None, offset: int, integers: bool
) -> None:
    """Merge the rows of a block that may be among the k largest products of each query."""
    k = running.indices.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        products = queries @ block.T
        norms = np.sqrt(np.einsum("qd,qd->q", queries, queries)), np.sqrt(np.einsum("md,md->m", block, block))
        # Two float64 sums of the same products, each in its own order, differ by at most this.
        error = 2 * (queries.shape[1] + 8) * ROUNDING * norms[0] * norms[1].max()
    if not np.isfinite(products).all() or not np.isfinite(error).all():
        raise InputError(
            "database", expected="magnitudes whose inner products float64 holds", received="larger ones",
            do="Scale the data.",
        )  # fmt: skip
    if integers and queries.shape[1] * GREATEST_BYTE_SQUARED < EXACT_INTEGERS:
        error = np.zeros(len(queries))
    if own is not None:
        rows = np.arange(len(queries)) + own - offset
        inside = (rows >= 0) & (rows < len(block))
        products[np.flatnonzero(inside), rows[inside]] = -np.inf
    kept = min(k, len(block))
    least = np.partition(products, len(block) - kept, axis=1)[:, len(block) - kept] - 2 * error
    worst = running.squared_distances[:, -1]
    reached = np.where(worst == fill_value(worst.dtype), -np.inf, -worst.astype(np.float64))
    bar = np.maximum(least, reached - error)
    query, row = np.nonzero((products >= bar[:, None]) & np.isfinite(products))
    exact = _fixed_order(queries, block, query, row)
    keys = -(np.rint(exact).astype(np.int64) if integers else exact)
    order = np.lexsort((row, keys, query))
    query, row, keys = query[order], row[order], keys[order]
    place = np.arange(len(query)) - np.searchsorted(query, query)
    chosen = place < k
    lists = np.full((len(queries), kept), fill_value(running.squared_distances.dtype), running.squared_distances.dtype)
    indices = np.full((len(queries), kept), NOBODY, np.int64)
    chosen &= place < kept
    lists[query[chosen], place[chosen]] = keys[chosen]
    indices[query[chosen], place[chosen]] = row[chosen] + offset
    running.merge(0, lists, indices)


def _fixed_order(x: np.ndarray, y: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Products of the row pairs (i, j): eight lanes, each adding its elements one after the other, then halves."""
    step = max(1, PAIRS_AT_ONCE // x.shape[1])
    found = np.empty(len(i))
    for start in range(0, len(i), step):
        some = slice(start, start + step)
        terms = x[i[some]] * y[j[some]]
        lanes = np.zeros((len(terms), LANES))
        for column in range(0, x.shape[1], LANES):
            piece = terms[:, column : column + LANES]
            lanes[:, : piece.shape[1]] += piece
        for width in (4, 2, 1):
            lanes = lanes[:, :width] + lanes[:, width : 2 * width]
        found[some] = lanes[:, 0]
    return found


def _squared_distances(inputs: SearchInputs, indices: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances of the pairs found, in their order."""
    found = np.empty(indices.shape, inputs.distance)
    queries, database = Converter(inputs.queries, METRIC), Converter(inputs.database, METRIC)
    step = max(1, PAIRS_AT_ONCE // max(1, inputs.database.width * indices.shape[1]))
    for first in range(0, len(indices), step):
        last = min(first + step, len(indices))
        x = queries(inputs.queries.read(first, last), first).astype(np.float64)
        y = database(inputs.database.take(indices[first:last].reshape(-1)), 0).astype(np.float64)
        difference = x[:, None] - y.reshape(last - first, -1, x.shape[1])
        squared = np.einsum("qkd,qkd->qk", difference, difference)
        found[first:last] = np.rint(squared) if inputs.integers else squared
    return found
