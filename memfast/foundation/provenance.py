"""What a result was made with: versions, machine, commit, and hashes of the inputs."""

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("memfast", "torch", "numpy", "scipy", "triton", "faiss-cpu", "faiss-gpu", "POT", "diffusers", "safetensors")


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of the installed packages among ``packages``; nothing is imported."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, cores, memory in GiB and operating system."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    return {
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def commit(folder: Path | None = None, *, apart: Sequence[str] = ()) -> str | None:
    """The git commit of memfast's own checkout, ``-dirty`` appended where files differ; None outside a checkout.

    Args:
        folder: another checkout.
        apart: files and folders in it whose changes do not count, such as the results of what is running.
    """
    if folder is None and not apart:
        return _own_commit()
    return _commit(folder or Path(__file__).resolve().parents[2], apart)


def content_hash(array: np.ndarray) -> str:
    """SHA-256 of an array's dtype, shape and values in C order: equal hashes mean equal content."""
    return content_hash_of_parts([array], array.shape)


def content_hash_of_parts(parts: Iterable[np.ndarray], shape: tuple[int, ...]) -> str:
    """``content_hash`` of the array of this shape whose rows the parts hold, one part after the other."""
    digest = None
    for part in parts:
        digest = digest or hashlib.sha256(f"{part.dtype.str}{shape}".encode())
        if part.ndim == 0:
            digest.update(part.tobytes())
            continue
        rows = max(1, (1 << 24) // max(1, part[:1].nbytes))
        for start in range(0, len(part), rows):
            digest.update(np.ascontiguousarray(part[start : start + rows]).data)
    return (digest or hashlib.sha256(str(shape).encode())).hexdigest()


@cache
def _own_commit() -> str | None:
    """Of memfast's own checkout, as it was when this process first asked: audits in a loop do not start git each."""
    return _commit(Path(__file__).resolve().parents[2], ())


def _commit(folder: Path, apart: Sequence[str]) -> str | None:
    if not (folder / ".git").exists():
        return None
    try:
        head = _git(folder, "rev-parse", "HEAD")
        others = [".", *(f":(exclude){one}" for one in apart)]
        return head + ("-dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no", "--", *others) else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    # Looking must not lock: a `git commit` in the checkout at the same moment would fail.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10, env=environment)
    return done.stdout.strip()


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
