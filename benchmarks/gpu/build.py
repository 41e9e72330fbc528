"""Builds the C++ and CUDA kernels in place."""

import os
import subprocess
import sys


def run(record) -> int:
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, env={**os.environ, "MEMFAST_BUILD": "cuda"})
    if done.returncode:
        record.note(failed="MEMFAST_BUILD=cuda did not build; the log has the compiler's words. Triton still runs.")
        return 1
    import memfast._C_cuda  # noqa: F401

    record.note(built="memfast._C and memfast._C_cuda for sm_80 and sm_90")
    return 0
