"""Many uses in one process: what it holds afterwards. ``python long_life.py audits 500`` prints a line per stage."""

import gc
import json
import os
import resource
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np


def held() -> dict[str, int]:
    """What this process has now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "resident": pages * os.sysconf("SC_PAGE_SIZE"),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "python threads": threading.active_count(),
    }


def audits(count: int, stages: int = 4) -> list[dict[str, int]]:
    """So many audits, saved with their pages; what the process holds after each stage, the first one a tenth of all."""
    import memfast

    random = np.random.default_rng(0)
    training = random.integers(0, 256, (200, 8, 8), dtype=np.uint8)
    generated = random.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    edges = [count // 10 or 1, *(count * stage // stages for stage in range(1, stages + 1))]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            result = memfast.audit(generated, training, k=5, progress=False, checkpoint=f"{folder}/{number}")
            result.report(f"{folder}/out")
            if number + 1 in edges:
                found.append(held())
    return found


def many_files(count: int, most_open: int = 64) -> list[dict[str, int]]:
    """Audit a folder of so many images with so few file descriptors."""
    from PIL import Image

    import memfast

    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        for number in range(count):
            Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(f"{folder}/{number:05d}.png")
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_open, most_open))
        result = memfast.audit(folder, folder, k=3, progress=False)
        assert result.fraction() == 1.0, result.summary()
        return [held()]


if __name__ == "__main__":
    print(json.dumps({"audits": audits, "files": many_files}[sys.argv[1]](int(sys.argv[2]))))
