"""What the machine is and what it can do at most: copies, int8 products, Philox and Box-Muller with nothing else."""

import subprocess

import torch

from benchmarks.gpu.timing import copy_bandwidth, replay_ms
from memfast.foundation.provenance import commit, machine, versions


def run(record) -> int:
    properties = torch.cuda.get_device_properties(0)
    record.note(
        gpu=properties.name, multiprocessors=properties.multi_processor_count, l2_bytes=properties.L2_cache_size,
        capability=f"{properties.major}.{properties.minor}", cuda=torch.version.cuda, versions=versions(),
        machine=machine(), commit=commit(), driver=_driver(),
    )  # fmt: skip
    record.attempt("copy bandwidth", lambda: {"terabytes_per_s": copy_bandwidth() / 1e12})
    record.attempt("int8 product (torch._int_mm, 8192^3)", lambda: {"tera_ops_per_s": int8_rate() / 1e12})
    for backend in ("cuda", "triton"):
        record.attempt(f"normals alone, {backend}", lambda b=backend: {"giga_normals_per_s": normals(b) / 1e9})
    return record.exit_code()


def int8_rate(size: int = 8192, columns: int = 8192, inner: int = 8192) -> float:
    """Operations per second of torch._int_mm on random bytes."""
    a = torch.randint(-128, 128, (size, inner), dtype=torch.int8, device="cuda")
    b = torch.randint(-128, 128, (columns, inner), dtype=torch.int8, device="cuda").t()
    return 2 * size * columns * inner / (replay_ms([lambda: torch._int_mm(a, b)], 10) / 1e3)


def normals(backend: str, batch: int = 4096, numel: int = 16384) -> float:
    """Normals per second; 4 bytes each are written as well."""
    from memfast import ops

    ids, key = torch.arange(batch, device="cuda"), ops.key(1, 2).cuda()
    call = lambda: ops.standard_normal(ids, numel, key, backend=backend)  # noqa: E731
    return batch * numel / (replay_ms([call]) / 1e3)


def _driver() -> str:
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
