"""``python -m benchmarks.index [DATA ...] [--rows N] [--queries Q] [--time]``: the kept index against brute force.

For each data set and k: the numbers must be those of brute force; then the share of pairs that the sketches left to
measure, which does not depend on the machine. ``--time`` adds times, which only a quiet machine gives rightly. Real
images come from the folder in --data (npz files of CIFAR-10 and Fashion-MNIST) and are augmented (shift, flip,
brightness) to --rows; ``random`` shows what data without structure cost.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import memfast
from memfast.neighbors import KeptIndex, Neighbors

FILES = {"cifar": "cifar10_12k.npz", "fashion": "fashion_mnist.npz"}
ROUNDS = 5
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index", description=__doc__)
    parser.add_argument("names", nargs="*", default=["cifar", "fashion", "random"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--components", type=int, default=None)
    parser.add_argument("--time", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.names:
        training, queries = load(name, arguments.data, arguments.rows, arguments.queries)
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            index = memfast.index(training, out=f"{folder}/index", components=arguments.components)
            build = time.perf_counter() - started
            for k in (2, 50):
                row = {"data": name, "rows": len(training), "k": k, **compare(index, training, queries, k)}
                if arguments.time:
                    row |= {"build_seconds": round(build, 2), **times(index, training, queries, k)}
                print(json.dumps(row), flush=True)


def compare(index: KeptIndex, training: np.ndarray, queries: np.ndarray, k: int) -> dict[str, float | int | bool]:
    """What one search had to measure, once its numbers are known to be right."""
    index.work.pairs = index.work.measured = index.work.by_brute_force = 0
    found, expected = index.search(queries, k), memfast.knn(queries, training, k)
    if found != expected:
        raise SystemExit(f"{index}: other neighbours than those of brute force")
    return {
        "queries": len(queries),
        "components": 0 if index.manifest["sketch"] is None else index.manifest["components"],
        "measured %": round(100 * index.work.survivors, 3),
        "by brute force %": round(100 * index.work.by_brute_force / index.work.pairs, 1),
    }


def times(index: KeptIndex, training: np.ndarray, queries: np.ndarray, k: int) -> dict[str, float]:
    """Medians of alternating runs: the ratio to brute force, and one query in milliseconds."""
    ratios, single = [], []
    for round_number in range(ROUNDS):
        ratios.append(timed(lambda: memfast.knn(queries, training, k)) / timed(lambda: index.search(queries, k)))
        for query in queries[round_number * 20 : round_number * 20 + 20]:
            single.append(1e3 * timed(lambda query=query: index.search(query, k)))
    return {
        "brute force / index": round(statistics.median(ratios), 2),
        "one query p50 ms": round(statistics.median(single), 2),
        "one query p99 ms": round(float(np.quantile(single, 0.99)), 2),
    }


def timed(search: Callable[[], Neighbors]) -> float:
    started = time.perf_counter()
    search()
    return time.perf_counter() - started


def load(name: str, folder: Path, rows: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Training images, augmented to ``rows``, and test images as queries; or random bytes."""
    draw = np.random.default_rng(SEED)
    if name == "random":
        return draw.integers(0, 256, (rows, 3072), np.uint8), draw.integers(0, 256, (count, 3072), np.uint8)
    with np.load(folder / FILES[name], allow_pickle=False) as file:
        return augmented(file["x_train"], rows, draw), file["x_test"][:count]


def augmented(images: np.ndarray, rows: int, draw: np.random.Generator) -> np.ndarray:
    """The images, then shifted, mirrored, brightened ones until there are ``rows``."""
    found = np.empty((rows, *images.shape[1:]), np.uint8)
    found[: len(images)] = images[:rows]
    for row in range(len(images), rows):
        image = images[row % len(images)]
        image = np.roll(image, tuple(draw.integers(-3, 4, 2)), (0, 1))
        image = image[:, ::-1] if draw.random() < 0.5 else image
        found[row] = np.clip(image * draw.uniform(0.8, 1.2) + draw.uniform(-10, 10), 0, 255)
    return found


if __name__ == "__main__":
    main()
