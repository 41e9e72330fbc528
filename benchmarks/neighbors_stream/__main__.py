"""What streaming costs: ``python -m benchmarks.neighbors_stream overhead | curve | checkpoint [--rows N]``.

overhead: knn on arrays in memory against one direct call of its kernel. curve: time and peak memory over a memory
map of growing size. checkpoint: the same search with and without a checkpoint folder.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from memfast import ops
from memfast.neighbors import knn

ROUNDS = 7
CHUNK = 50_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbors_stream", description=__doc__)
    parser.add_argument("what", choices=["overhead", "curve", "checkpoint", "one"])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--width", type=int, default=784)
    parser.add_argument("--folder", type=Path, default=None, help="where the memory map is written")
    arguments = parser.parse_args()
    {"overhead": overhead, "curve": curve, "checkpoint": checkpoint, "one": one}[arguments.what](arguments)


def overhead(arguments: argparse.Namespace) -> None:
    """Median ratio of knn to one kernel call, alternating in one run."""
    draw = np.random.default_rng(0)
    for rows, queries, width, k, dtype in [
        (30_000, 1000, 3072, 50, "uint8"),
        (60_000, 2000, 784, 10, "uint8"),
        (30_000, 500, 768, 10, "float32"),
    ]:
        x, y = (draw.integers(0, 256, (n, width), dtype=np.uint8).astype(dtype) for n in (queries, rows))
        ratios = [timed(knn, x, y, k) / timed(ops.nearest, x, y, k) for _ in range(ROUNDS + 1)][1:]
        case = f"{dtype}, D={width}, N={rows}, Q={queries}, k={k}"
        print(json.dumps({"case": case, "knn / kernel": round(statistics.median(ratios), 3)}))


def checkpoint(arguments: argparse.Namespace) -> None:
    """Median ratio of a search with a checkpoint folder to one without."""
    draw = np.random.default_rng(0)
    x, y = (draw.integers(0, 256, (n, 3072), dtype=np.uint8) for n in (8000, 20_000))
    ratios = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            kept = timed(knn, x, y, 50, checkpoint=Path(folder) / "state")
        ratios.append(kept / timed(knn, x, y, 50))
    print(
        json.dumps(
            {
                "case": "checkpoint, uint8, D=3072, N=20000, Q=8000, k=50",
                "with / without": round(statistics.median(ratios), 3),
            }
        )
    )


def curve(arguments: argparse.Namespace) -> None:
    """Seconds and peak memory for growing N, each size in a process of its own."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "database.npy"
        write(path, arguments.rows, arguments.width)
        for share in (16, 8, 4, 2, 1):
            rows = str(arguments.rows // share)
            command = [
                sys.executable,
                "-m",
                "benchmarks.neighbors_stream",
                "one",
                "--folder",
                str(path),
                "--rows",
                rows,
            ]
            subprocess.run([*command, "--queries", str(arguments.queries)], check=True)


def one(arguments: argparse.Namespace) -> None:
    """One size of the curve; ``--folder`` names the file."""
    database = np.load(arguments.folder, mmap_mode="r")[: arguments.rows]
    queries = np.random.default_rng(1).integers(0, 256, (arguments.queries, database.shape[1]), dtype=np.uint8)
    knn(queries, database[:1000], 10)
    before = peak_memory()
    seconds = timed(knn, queries, database, 10)
    grown = peak_memory() - before
    row = {"rows": arguments.rows, "database MiB": round(database.nbytes / 2**20), "seconds": round(seconds, 2)}
    rate = 2 * arguments.queries * database.size / seconds / 1e9
    print(json.dumps({**row, "giga-operations per second": round(rate), "memory grown MiB": round(grown)}), flush=True)


def peak_memory() -> float:
    """MiB this process has held at most, file pages included; ``getrusage`` would also count its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def write(path: Path, rows: int, width: int) -> None:
    """A ``.npy`` file of random bytes, written in chunks."""
    draw = np.random.default_rng(0)
    file = np.lib.format.open_memmap(path, "w+", np.uint8, (rows, width))
    for start in range(0, rows, CHUNK):
        file[start : start + CHUNK] = draw.integers(0, 256, file[start : start + CHUNK].shape, dtype=np.uint8)
    file.flush()


def timed(call: Callable[..., object], *arguments: Any, **options: Any) -> float:
    started = time.perf_counter()
    call(*arguments, **options)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
