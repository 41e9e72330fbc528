"""The CUDA sources without a GPU: their arithmetic on the host, and what nvcc makes of them for sm_80 and sm_90."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from memfast.ops import key as make_key
from memfast.ops import reference
from memfast.ops.operands import Draw
from memfast.ops.reference.random import box_muller

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
HOST = r"""
#include "cuda/normal.h"
using namespace memfast;
extern "C" {
void host_philox(const uint32_t* counter, const uint32_t* key, uint32_t* out, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
        Words words;
        for (int j = 0; j < 4; ++j) words.w[j] = counter[4 * i + j];
        words = philox(words, key[2 * i], key[2 * i + 1]);
        for (int j = 0; j < 4; ++j) out[4 * i + j] = words.w[j];
    }
}
void host_normals(const uint32_t* words, float* out, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
        Words four;
        for (int j = 0; j < 4; ++j) four.w[j] = words[4 * i + j];
        normals_of(four, out + 4 * i);
    }
}
void host_sample(int64_t id, int64_t seed, int64_t step, uint32_t stream, int64_t first_quad, float* out,
                 int64_t quads) {
    for (int64_t q = 0; q < quads; ++q)
        normals_of(words_of(static_cast<uint32_t>(first_quad + q), id, seed, step, stream), out + 4 * q);
}
void host_draw(const int64_t* thresholds, int64_t count, const int64_t* ids, int64_t seed, int64_t step,
               const int64_t* positions, int64_t total, int64_t* out, int64_t n) {
    for (int64_t i = 0; i < n; ++i)
        out[i] = reached(thresholds, count, timestep_word(ids[i], seed, step, positions[i], total));
}
}
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """The device functions, compiled for the host."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler here")
    folder = tmp_path_factory.mktemp("host")
    (folder / "host.cpp").write_text(HOST)
    flags = ["-O2", "-std=c++17", "-ffp-contract=off", "-shared", "-fPIC", f"-I{ROOT / 'csrc'}"]
    subprocess.run([compiler, *flags, "host.cpp", "-o", "host.so"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "host.so"))


def at(array):
    return ctypes.c_void_p(array.ctypes.data)


def test_philox_gives_the_known_answers(host):
    counter = np.array([[0] * 4, [0xFFFFFFFF] * 4, [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]], np.uint32)
    keys = np.array([[0, 0], [0xFFFFFFFF] * 2, [0xA4093822, 0x299F31D0]], np.uint32)
    out = np.zeros_like(counter)
    host.host_philox(at(counter), at(keys), at(out), ctypes.c_int64(3))
    assert out[0].tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert out[1].tolist() == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    assert out[2].tolist() == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def test_normals_have_the_reference_bits(host):
    words = np.random.default_rng(0).integers(0, 2**32, (200_000, 4), dtype=np.uint32)
    corners = np.array([0, 1, 2, 2**29 - 1, 2**29, 2**31 - 1, 2**31, 3 * 2**29, 2**32 - 129, 2**32 - 1], np.uint32)
    grid = np.stack(np.meshgrid(corners, corners), -1).reshape(-1, 2)
    words[: len(grid), :2], words[: len(grid), 2:] = grid, grid[:, ::-1]
    out = np.full(words.shape, np.nan, np.float32)
    host.host_normals(at(words), at(out), ctypes.c_int64(len(words)))
    w = torch.from_numpy(words.astype(np.int64))
    expected = torch.stack((*box_muller(w[:, 0], w[:, 1]), *box_muller(w[:, 2], w[:, 3])), 1)
    np.testing.assert_array_equal(out.view(np.int32), expected.numpy().view(np.int32))


@pytest.mark.parametrize("sample_id", [0, 2**32 + 5, 2**56 - 1])
@pytest.mark.parametrize("offset", [0, 2**33 + 4])
def test_addresses_equal_the_reference(host, sample_id, offset):
    key = make_key(2**64 - 3, 2**32 - 1)
    out = np.full(256, np.nan, np.float32)
    numbers = (ctypes.c_int64(sample_id), ctypes.c_int64(int(key[0])), ctypes.c_int64(int(key[1])), ctypes.c_uint32(5))
    host.host_sample(*numbers, ctypes.c_int64(offset // 4), at(out), ctypes.c_int64(64))
    expected = reference.standard_normal(torch.tensor([sample_id]), 256, key, 5, offset)
    np.testing.assert_array_equal(out, expected[0].numpy())


@pytest.mark.parametrize("total", [0, 1, 1000, 2**31])
def test_timestep_draws_equal_the_reference(host, total):
    generator = torch.Generator().manual_seed(0)
    thresholds = torch.randint(-(2**63), 2**63 - 1, (999,), generator=generator).sort().values
    ids = torch.randint(0, 2**56, (5000,), generator=generator)
    positions = torch.randint(0, max(total, 1), (5000,), generator=generator)
    key = make_key(2**63 + 1, 7)
    out = np.full(5000, -1, np.int64)
    numbers = (ctypes.c_int64(int(key[0])), ctypes.c_int64(int(key[1])))
    host.host_draw(
        at(thresholds.numpy()), ctypes.c_int64(999), at(ids.numpy()), *numbers, at(positions.numpy()),
        ctypes.c_int64(total), at(out), ctypes.c_int64(5000),
    )  # fmt: skip
    expected = reference.draw_timesteps(Draw(thresholds, positions if total else None, max(total, 1)), ids, key)
    np.testing.assert_array_equal(out, expected.numpy())


@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_kernels_compile_without_spills_and_without_fused_multiply_adds(
    source, architecture, tmp_path, record_property
):
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("nvcc is not on the PATH")
    flags = ["-std=c++17", "-O3", "-fmad=false", f"-I{ROOT / 'csrc'}", f"-arch=sm_{architecture}", "-Xptxas", "-v"]
    command = [
        compiler,
        *flags,
        "--keep",
        "--keep-dir",
        str(tmp_path),
        "-c",
        str(source),
        "-o",
        str(tmp_path / "out.o"),
    ]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", told.stderr)]
    spills = [int(n) for n in re.findall(r"(\d+) bytes (?:stack frame|spill stores|spill loads)", told.stderr)]
    print(f"{source.name} sm_{architecture}: {registers} registers")
    record_property("registers", str(registers))
    assert registers
    assert len(spills) == 3 * len(registers)
    assert not any(spills)
    (ptx,) = (path.read_text() for path in tmp_path.glob("*.ptx"))
    assert "mul.rn.f32" in ptx
    assert not re.search(r"\bfma\.rn\S*\.f32", ptx)
    # An operation that names its rounding is never fused by the assembler; one that does not may be.
    assert not re.search(r"\b(mul|add|sub)(\.ftz)?\.f32", ptx)
