"""The problems of the neighbours' benchmark, and how one is checked and timed against its peers."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Case:
    """One problem: its sizes, our instruction set and the peers it is compared with."""

    queries: int
    points: int
    length: int
    k: int
    peers: tuple[str, ...]
    kind: str = "uint8"
    isa: str = "best"


BYTE_PEERS = ("faiss_knn", "svs_flat", "torch_int_mm", "numkong_dots")
CASES = {
    "pixels3072": Case(2000, 60000, 3072, 50, BYTE_PEERS),
    "pixels784": Case(10000, 60000, 784, 10, BYTE_PEERS),
    "features768": Case(2000, 100000, 768, 10, ("faiss_knn",), kind="float32"),
    "avx2": Case(1000, 60000, 3072, 50, ("faiss_knn",), isa="avx2"),
}
# What limits faiss and its OpenBLAS to AVX2; read when they are loaded.
AVX2_ONLY = {"FAISS_OPT_LEVEL": "avx2", "OPENBLAS_CORETYPE": "Haswell"}


def run_case(name: str, case: Case, rounds: int, threads: int, peaks: dict[str, float]) -> list[dict]:
    """Check, time and print one case; one row per peer."""
    if case.isa == "avx2":
        os.environ.update(AVX2_ONLY)
    from benchmarks.neighbors import peers
    from memfast import _C
    from memfast.ops import nearest

    queries, points = make_data(case)
    torch.set_num_threads(threads)
    _C.set_isa(case.isa)
    ours = nearest(queries, points, case.k, backend="cpu")
    check(queries, points, ours.squared_distances, ours.indices)
    contenders: dict[str, Callable[[], object]] = {"memfast": lambda: nearest(queries, points, case.k, backend="cpu")}
    for peer in case.peers:
        contenders[peer] = getattr(peers, peer)(queries, points, case.k, threads)
    times: dict[str, list[float]] = {contender: [] for contender in contenders}
    for _ in range(rounds):
        for contender, search in contenders.items():
            start = time.perf_counter()
            search()
            times[contender].append(time.perf_counter() - start)
    operations = 2.0 * case.queries * case.points * case.length * 1e-9
    best = min(times["memfast"])
    print(f"{name} ({case}): memfast {operations / best:.0f} GOP/s, fallbacks {ours.fallbacks}")
    peak = peaks.get("int16_avx2" if case.isa == "avx2" else "int8_avx512vnni") if case.kind == "uint8" else None
    if case.kind == "uint8":
        print(f"  of the machine's peak: {operations / best / peak:.2f}" if peak else "  no register loop here")
    rows = []
    for peer in case.peers:
        ratio = statistics.median(theirs / mine for theirs, mine in zip(times[peer], times["memfast"], strict=True))
        print(f"  {peer}: {operations / min(times[peer]):.0f} GOP/s, {ratio:.2f} times our time", flush=True)
        rows.append(
            {
                "package": "neighbors", "row": name, "against": peer, "rounds": rounds, "ratio": ratio,
                "ours_seconds": best, "peer_seconds": min(times[peer]), "fallbacks": ours.fallbacks,
                "of_peak": operations / best / peak if peak else None,
            }
        )  # fmt: skip
    return rows


def make_data(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Random queries and points, some of them near copies."""
    rng = np.random.default_rng(0)
    if case.kind == "uint8":
        points = rng.integers(0, 256, (case.points, case.length), dtype=np.uint8)
        queries = rng.integers(0, 256, (case.queries, case.length), dtype=np.uint8)
        queries[::10] = points[: len(queries[::10])]
        queries[::10, 0] ^= 1
        return queries, points
    points = rng.standard_normal((case.points, case.length), dtype=np.float32)
    return rng.standard_normal((case.queries, case.length), dtype=np.float32), points


def check(queries: np.ndarray, points: np.ndarray, distances: np.ndarray, indices: np.ndarray) -> None:
    """Raise unless a sample of the answers equals float64 brute force."""
    for q in range(0, len(queries), max(1, len(queries) // 5)):
        squared = np.empty(len(points))
        for first in range(0, len(points), 5000):
            part = points[first : first + 5000].astype(np.float64) - queries[q].astype(np.float64)
            squared[first : first + 5000] = np.einsum("nd,nd->n", part, part)
        order = np.argsort(squared, kind="stable")[: distances.shape[1]]
        np.testing.assert_array_equal(indices[q], order)
        np.testing.assert_allclose(distances[q], squared[order], rtol=1e-12)
