"""The strongest exact searches of others, each prepared for one problem and ready to be timed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

Search = Callable[[], object]


def faiss_knn(queries: np.ndarray, database: np.ndarray, k: int, threads: int) -> Search:
    """faiss.knn on float32; the conversion is not timed."""
    import faiss

    faiss.omp_set_num_threads(threads)
    x, y = queries.astype(np.float32), database.astype(np.float32)
    return lambda: faiss.knn(x, y, k)


def svs_flat(queries: np.ndarray, database: np.ndarray, k: int, threads: int) -> Search:
    """Intel's SVS Flat on uint8; building the index is not timed."""
    import svs

    index = svs.Flat(np.ascontiguousarray(database), svs.DistanceType.L2, num_threads=threads)
    return lambda: index.search(queries, k)


def torch_int_mm(queries: np.ndarray, database: np.ndarray, k: int, threads: int) -> Search:
    """torch._int_mm on shifted bytes, then the distances and topk, 4,000 queries at a time."""
    torch.set_num_threads(threads)
    x, y = (torch.from_numpy(a ^ 128).view(torch.int8) for a in (queries, database))
    norms = [(a.int() ** 2).sum(1, dtype=torch.int32) for a in (x, y)]
    columns = y.t().contiguous()

    def search() -> list:
        found = []
        for first in range(0, len(x), 4000):
            here = slice(first, first + 4000)
            squared = torch._int_mm(x[here], columns).mul_(-2).add_(norms[1]).add_(norms[0][here, None])
            found.append(torch.topk(squared, k, largest=False))
        return found

    return search


def numkong_dots(queries: np.ndarray, database: np.ndarray, k: int, threads: int) -> Search:
    """NumKong's packed dot products of bytes, then distances and NumPy's partition, 250 queries at a time."""
    import numkong

    packed = numkong.dots_pack(database)
    norms = [(a.astype(np.uint32) ** 2).sum(1, dtype=np.int32) for a in (queries, database)]

    def part(first: int) -> np.ndarray:
        here = slice(first, first + 250)
        squared = np.asarray(numkong.dots_packed(queries[here], packed)).view(np.int32)
        squared *= -2
        squared += norms[1]
        squared += norms[0][here, None]
        return np.argpartition(squared, k, 1)[:, :k]

    def search() -> list:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(part, range(0, len(queries), 250)))

    return search
