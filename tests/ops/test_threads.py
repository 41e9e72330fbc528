"""Which threads run the kernels: PyTorch's or our own, with the same bits; and Python's lock is free meanwhile."""

import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from memfast import ops
from memfast.ops.compiled import CPU, addresses_struct, draw_struct

_C = pytest.importorskip("memfast._C", reason="the C++ kernels are not built")
SOURCES = Path(__file__).parents[2] / "csrc"


@pytest.fixture
def own_threads():
    """Run the kernels on the pool of csrc/cpu/parallel.cpp."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    _C.use_openmp(False)
    yield
    _C.use_openmp(True)
    torch.set_num_threads(before)


def everything():
    ids, rows = torch.arange(4), torch.zeros(4, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    x0, key = torch.randn(4, 50_000, generator=generator), ops.key(1, 2)
    table = torch.randn(1, 7, generator=generator)
    average = torch.zeros_like(x0)
    ops.ema([x0], [[average]], [0.75])
    images = torch.randint(0, 256, (300, 500), dtype=torch.uint8, generator=generator).numpy()
    found = ops.nearest(images[:50], images, 5), ops.nearest(images[:50] / 3, images / 3, 5)
    numbers = [values for block in found for values in (block.squared_distances, block.indices)]
    pairs = ops.range_search(images[:50], images, int(np.median(found[0].squared_distances)))
    return [
        ops.noise(x0, table, rows, ids, key), ops.loss(x0 / 2, x0, table, rows, ids, key), average,
        ops.standard_normal(ids, 50_000, key), ops.inner_products([x0, x0[:1]], [(0, 1), (1, 1)]),
        *map(torch.from_numpy, [*numbers, *pairs]),
    ]  # fmt: skip


def test_the_pool_gives_the_bits_of_openmp_threads(own_threads):
    assert not _C.has_openmp()
    own = everything()
    _C.use_openmp(True)
    for got, expected in zip(own, everything(), strict=True):
        assert torch.equal(got, expected)


def test_a_build_without_openmp_has_none(tmp_path):
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler here")
    (tmp_path / "main.cpp").write_text(
        """#include "cpu/openmp.h"
        int main() { return memfast::has_openmp() || memfast::run_on_openmp_threads([](void*) {}, nullptr, 2); }"""
    )
    # With an OpenMP runtime in the process, the macro alone decides.
    sources = [str(tmp_path / "main.cpp"), str(SOURCES / "cpu" / "openmp.cpp"), f"-I{SOURCES}", "-std=c++17"]
    for macros, code in (["-DMEMFAST_NO_OPENMP"], 0), ([], 1):
        command = [compiler, *macros, *sources, "-fopenmp", "-Wl,--no-as-needed", "-lgomp", "-ldl", "-o", "program"]
        built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        if built.returncode:
            pytest.skip(f"this compiler has no OpenMP: {built.stderr[-200:]}")
        assert subprocess.run([tmp_path / "program"]).returncode == code


def philox_call():
    words, key = torch.zeros(3_000_000, 4, dtype=torch.int64), torch.zeros(3_000_000, 2, dtype=torch.int64)
    return lambda: _C.philox(words.data_ptr(), key.data_ptr(), len(words), words.data_ptr())


def draw_call():
    ids, key, draw = torch.arange(5_000_000), ops.key(0), ops.Draw(torch.arange(999))
    out = torch.empty_like(ids)
    structs = addresses_struct(CPU, ids, key), draw_struct(CPU, draw, out)
    return lambda kept=(ids, key, draw, out): _C.draw_timesteps(*structs)


def ema_call():
    tensors = torch.zeros(4_000_000), *(torch.zeros(4_000_000) for _ in range(40))
    addresses = [tensor.data_ptr() for tensor in tensors]
    arguments = ([4_000_000], addresses[:1], [_C.NumberType.float32], addresses[1:], [0.5] * 40, 1)
    return lambda tensors=tensors: _C.ema(*arguments)


def nearest_call():
    rows = np.zeros((6000, 1000), np.uint8)
    results = np.empty((6000, 3), np.int64), np.empty((6000, 3), np.int64)
    view = _C.Rows(rows.ctypes.data, *rows.shape, rows.strides[0], _C.NumberType.uint8)
    search, places = _C.Search(view, view, 3, 0, 1), [array.ctypes.data for array in results]
    return lambda kept=(rows, results): _C.nearest_uint8(search, 0, *places)


@pytest.mark.parametrize("make", [philox_call, draw_call, ema_call, nearest_call])
def test_python_runs_while_a_kernel_does(make):
    """This thread reads the clock well inside the span in which another one is in the kernel."""
    call, span, readings = make(), [], []

    def work():
        span.append(time.perf_counter())
        call()
        span.append(time.perf_counter())

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        readings.append(time.perf_counter())
        time.sleep(0.0005)
    start, end = span
    quarter = (end - start) / 4
    assert any(start + quarter < moment < end - quarter for moment in readings)
