"""Runs triton_cases.py under Triton's interpreter, in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from memfast.foundation.errors import BackendUnavailableError
from memfast.ops import standard_normal
from memfast.ops.registry import why_unavailable

CASES = Path(__file__).with_name("triton_cases.py")


def test_the_kernels_in_the_interpreter_equal_the_reference():
    pytest.importorskip("triton", reason="triton is not installed")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1000)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="here a GPU makes the backends available")
def test_without_a_gpu_the_backends_say_why():
    assert re.search("GPU|not installed", why_unavailable("triton"))
    assert re.search("GPU|MEMFAST_BUILD=cuda", why_unavailable("cuda"))
    for name, words in (("triton", "GPU|not installed"), ("cuda", "it computes on cuda tensors")):
        with pytest.raises(BackendUnavailableError, match=words):
            standard_normal(torch.tensor([1]), 4, torch.tensor([0, 0]), backend=name)


def test_importing_the_backends_does_not_import_triton():
    code = (
        "import sys, memfast, memfast.ops.triton, memfast.ops.cuda; memfast.ops.triton.why_unavailable();"
        "memfast.ops.cuda.why_unavailable(); sys.exit('triton' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
