"""Exact int8 nearest neighbours beside fp32 torch.mm + topk, and as a share of the measured int8 product rate.

fp32 distances cannot be exact; the row says how many of its neighbours differ.
"""

import time

import torch

from benchmarks.gpu.machine import int8_rate
from memfast import ops

LENGTH, K = 3072, 50
SIZES = ((1_000_000, 50_000), (60_000, 10_000))
ROWS_PER_BLOCK, PEER_QUERIES = 100_000, 5_000


def run(record) -> int:
    rate = int8_rate()
    record.note(int8_tera_ops=rate / 1e12)
    for rows, queries in reversed(SIZES):
        record.attempt(f"N={rows}, Q={queries}, D={LENGTH}, k={K}", lambda r=rows, q=queries: _row(r, q, rate))
    return record.exit_code()


def _row(rows, queries, rate):
    generator = torch.Generator("cuda").manual_seed(0)
    database = torch.randint(0, 256, (rows, LENGTH), dtype=torch.uint8, device="cuda", generator=generator)
    asked = torch.randint(0, 256, (queries, LENGTH), dtype=torch.uint8, device="cuda", generator=generator)
    ops.nearest(asked[:2000], database[:20_000], K, backend="triton")
    seconds, found = _timed(lambda: ops.nearest(asked, database, K, backend="triton"))
    some = min(queries, PEER_QUERIES)
    _plain(asked[:64], database[:ROWS_PER_BLOCK])
    plain_seconds, indices = _timed(lambda: _plain(asked[:some], database))
    # The peer's time is proportional to the queries; it is measured on some of them.
    plain_seconds *= queries / some
    wrong = int((indices.cpu() != torch.from_numpy(found.indices[:some])).sum())
    operations = 2 * rows * queries * LENGTH
    return {
        "memfast_s": seconds, "mm_topk_s": plain_seconds, "ratio": plain_seconds / seconds,
        "of_int8_rate": operations / seconds / rate, "peer_neighbours_that_differ": wrong / indices.numel(),
    }  # fmt: skip


def _plain(queries, database):
    x = queries.float()
    best = None
    for start in range(0, len(database), ROWS_PER_BLOCK):
        y = database[start : start + ROWS_PER_BLOCK].float()
        squared = (y * y).sum(1) - 2 * torch.mm(x, y.t())
        values, indices = squared.topk(min(K, len(y)), 1, largest=False)
        indices += start
        if best is not None:
            values, indices = torch.cat((best[0], values), 1), torch.cat((best[1], indices), 1)
            values, place = values.topk(K, 1, largest=False)
            indices = indices.gather(1, place)
        best = values, indices
    return best[1]


def _timed(call):
    torch.cuda.synchronize()
    began = time.perf_counter()
    result = call()
    torch.cuda.synchronize()
    return time.perf_counter() - began, result
