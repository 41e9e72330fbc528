"""A caller's flush-to-zero or rounding mode changes no bit: subnormal numbers through every op, on several threads."""

import ctypes
import sys

import numpy as np
import pytest
import torch

from memfast import ops
from tests.ops.ops_cases import INSTRUCTION_SETS, use_instruction_set

FE_TONEAREST, FE_UPWARD = 0, 0x800
TINY = {torch.float32: 2.0**-140, torch.bfloat16: 2.0**-130, torch.float16: 2.0**-22}
BACKENDS = [*(f"cpu {name}" for name in INSTRUCTION_SETS), "reference"]
# Above what one thread does alone, for the kernels and for PyTorch.
SHAPE = (3, 50_001)


def values(shape, dtype, seed, scale=None):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * (scale or TINY[dtype])).to(dtype)


def addresses(batch):
    return torch.zeros(batch, dtype=torch.int64), torch.arange(batch) + 2**40, ops.key(5, 6)


# Each case makes its inputs at once, and returns the call that is made in the mode under test.


def noise(dtype):
    table = torch.tensor([[1.0, 2.0**-141, 2.0**-140, 1, 0, 0, 0]])
    rows, ids, key = addresses(SHAPE[0])
    x0 = values(SHAPE, dtype, 0)
    return lambda backend: (ops.noise(x0, table, rows, ids, key, ids, backend=backend),)


def gathered(dtype):
    small = TINY[dtype]
    table = torch.tensor([[small, 0, small / 2, 1, 0, 0, 0]])
    rows, ids, key = addresses(3)
    data = torch.randint(0, 256, (5, SHAPE[1]), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    return lambda backend: (ops.gather_noise(data, ids % 5, table, rows, ids, key, dtype=dtype, backend=backend).x_in,)


def loss(dtype):
    """Residuals near 2**-66: their squares, the mean of these and the gradients are subnormal. float16 has no such
    gradients: there only the gradients are subnormal."""
    size, cotangent = (2.0**-66, 2.0**-48) if dtype != torch.float16 else (2.0**-21, 2.0**16)
    table = torch.tensor([[0.0, 0, 0, 1, 1, 0, size / 2]])
    rows, ids, key = addresses(SHAPE[0])
    prediction, x0 = (values(SHAPE, dtype, seed, size) for seed in (3, 4))
    prediction.requires_grad_()
    scale = torch.full((SHAPE[0],), cotangent)

    def call(backend):
        value = ops.loss(prediction, x0, table, rows, ids, key, reduction="none", backend=backend)
        return value.detach(), *torch.autograd.grad(value, prediction, scale)

    return call


def averages(dtype):
    parameters = [values(shape, dtype, seed) for seed, shape in enumerate([(7,), (90_001,)])]
    kept = [[values(p.shape, torch.float32, 9 + k) for p in parameters] for k in range(2)]

    def call(backend):
        stored = [[average.clone() for average in row] for row in kept]
        ops.ema(parameters, stored, [0.75, 0.5], backend=backend)
        return tuple(average for row in stored for average in row)

    return call


def inner_products(dtype):
    tensors = [values(SHAPE, dtype, 0), values(SHAPE, torch.float32, 1, 1.0)]
    return lambda backend: (ops.inner_products(tensors, [(0, 1), (0, 0)], backend=backend),)


def searches(dtype):
    queries, block = values((6, 33), dtype, 0), values((50, 33), dtype, 1)
    radius = float((queries[0].double() - block.double()).square().sum(1).median())

    def call(backend):
        found = ops.nearest(queries, block, 3, backend=backend)
        pairs = ops.range_search(queries, block, radius, backend=backend)
        return tuple(map(torch.from_numpy, (found.squared_distances, found.indices, *pairs)))

    return call


def run(call, backend, threads, flush):
    name, _, isa = backend.partition(" ")
    before = torch.get_num_threads()
    if isa:
        use_instruction_set(isa)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(flush)
    try:
        results = call(name)
        kept = is_flushing()
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)
        if isa:
            use_instruction_set("best")
    # The caller's mode is what it was.
    assert kept == flush
    return results


def is_flushing():
    return bool(torch.full((1,), 2.0**-140) * 1.0 == 0)


def bits(tensor):
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


@pytest.fixture(autouse=True)
def can_flush():
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor has no flush-to-zero that PyTorch knows")


@pytest.mark.parametrize("dtype", list(TINY), ids=str)
@pytest.mark.parametrize("case", [noise, gathered, loss, averages, inner_products, searches])
@pytest.mark.parametrize("backend", BACKENDS)
def test_flush_to_zero_changes_no_bit(backend, case, dtype):
    call = case(dtype)
    plain, reference = (run(call, name, 1, flush=False) for name in (backend, "reference"))
    assert all(result.count_nonzero() for result in plain)
    for threads in (1, 2):
        results = run(call, backend, threads, flush=True)
        assert [bits(result) for result in results] == [bits(result) for result in plain]
    # What is promised to the bit across backends, too.
    exact = {loss: slice(1, None), inner_products: slice(0, 0)}.get(case, slice(None))
    assert [bits(result) for result in plain[exact]] == [bits(result) for result in reference[exact]]


def test_the_cases_are_subnormal():
    """The tests above can fail: flushed inputs or results would differ."""
    smallest = torch.finfo(torch.float32).smallest_normal
    for case in (noise, loss, averages):
        for result in run(case(torch.float32), "reference", 1, flush=False):
            assert ((result != 0) & (result.abs() < smallest)).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_subnormal_data_passes_through_noise_unchanged(backend):
    """Against what no backend computes: with a_x = 1 and no noise, x_in is x0."""
    rows, ids, key = addresses(2)
    table = torch.tensor([[1.0, 0, 0, 1, 0, 0, 0]])
    for dtype in TINY:
        x0 = values((2, 40_000), dtype, 0)
        call = lambda name, x0=x0: (ops.noise(x0, table, rows, ids, key, backend=name),)  # noqa: E731
        (got,) = run(call, backend, 2, flush=True)
        assert torch.equal(got, x0)
        assert got.count_nonzero() > 70_000


def test_workers_that_were_started_in_flush_mode_keep_subnormal_numbers():
    """A thread inherits the mode of whoever starts it; switching the caller back does not reach it."""
    call = noise(torch.float32)
    before = torch.get_num_threads()
    torch.set_flush_denormal(True)
    try:
        torch.set_num_threads(3)
        torch.ones(1_000_000).mul_(2.0).sum()
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)
    (expected,) = run(call, "reference", 1, flush=False)
    for backend in BACKENDS:
        assert torch.equal(run(call, backend, 3, flush=False)[0], expected)


@pytest.mark.skipif(not INSTRUCTION_SETS, reason="the C++ kernels are not built")
@pytest.mark.skipif(sys.platform != "linux", reason="the C library is loaded by its Linux name")
@pytest.mark.parametrize("case", [noise, averages, searches])
def test_the_rounding_mode_changes_no_bit_of_the_kernels(case):
    library = ctypes.CDLL("libm.so.6")
    call = case(torch.float32)
    plain = run(call, "cpu", 2, flush=False)
    one, little = np.float32(1), np.float32(2.0**-30)
    assert library.fesetround(FE_UPWARD) == 0
    try:
        results, rounded_up, mode = run(call, "cpu", 2, flush=False), one + little, library.fegetround()
    finally:
        library.fesetround(FE_TONEAREST)
    # The mode was on, and still is after the kernels.
    assert mode == FE_UPWARD
    assert rounded_up > 1
    assert [bits(result) for result in results] == [bits(result) for result in plain]
