"""x_in: equal to the plain formula on the op's own noise, to the bit on every instruction set, dtype and layout."""

import pytest
import torch

from memfast import ops
from memfast.foundation.errors import BackendUnavailableError, InputError
from tests.ops.ops_cases import DTYPES, SHAPES


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fixed", [False, True], ids=["fresh", "fixed"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernels_equal_the_reference(isa, problem, shape, fixed, dtype):
    p = problem(shape, dtype, fixed)
    got = p.noise("cpu")
    assert got.dtype == dtype
    assert torch.equal(got, p.noise("reference"))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equals_the_plain_formula(problem, dtype):
    p = problem(dtype=dtype)
    rows = p.table[p.timesteps].view(4, 7, 1, 1, 1)
    fresh = ops.standard_normal(p.sample_ids, 192, p.key).view(4, 3, 8, 8)
    fixed = ops.standard_normal(p.fixed_ids, 192, ops.key(-3, 0), "fixed").view(4, 3, 8, 8)
    expected = (rows[:, 0] * p.x0.float() + rows[:, 1] * fixed) + rows[:, 2] * fresh
    assert torch.equal(p.noise(), expected.to(dtype))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_layout_changes_no_value(problem, backend):
    p = problem((4, 3, 10, 7))
    expected = p.noise(backend)
    last = p.x0.to(memory_format=torch.channels_last)
    got = p.noise(backend, x0=last)
    assert torch.equal(got, expected)
    assert got.is_contiguous(memory_format=torch.channels_last)
    sliced = torch.zeros(4, 3, 10, 14)[..., ::2].copy_(p.x0)
    assert torch.equal(p.noise(backend, x0=sliced), expected)
    assert torch.equal(p.noise(backend, x0=p.x0.transpose(1, 3).contiguous().transpose(1, 3)), expected)


def test_strided_operands(problem):
    p = problem()
    spread = {name: torch.stack((getattr(p, name),) * 2, 1)[:, 0] for name in ("timesteps", "sample_ids", "fixed_ids")}
    table = torch.stack((p.table, p.table), 2)[..., 0]
    key = torch.stack((p.key, p.key), 1)[:, 0]
    assert torch.equal(p.noise(table=table, key=key, **spread), p.noise())


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("shape", [(0,), (0, 3, 8, 8), (4, 0), (4, 3, 0)], ids=str)
def test_empty_batches(problem, shape, backend):
    assert problem(shape).noise(backend).shape == shape


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_element_is_written(isa, problem, shape, poisoned):
    p = problem(shape)
    assert not p.noise("cpu").isnan().any()


def test_threads_do_not_change_a_bit(problem):
    p, before, results = problem((3, 60001)), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(p.noise("cpu"))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_special_values_pass_through(isa):
    special = [float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 65519.0, 65520.0, 1e-40, 6e-8, -0.0]
    table = torch.tensor([[1.0, 0, 0, 1, 0, 0, 0]])
    for dtype in DTYPES:
        x0 = torch.tensor(special * 20).to(dtype)[None]
        zero = torch.zeros(1, dtype=torch.int64)
        got = ops.noise(x0, table, zero, zero, ops.key(0), backend="cpu")
        expected = ops.noise(x0, table, zero, zero, ops.key(0), backend="reference")
        assert torch.equal(got.nan_to_num(nan=7.0), expected.nan_to_num(nan=7.0))


def test_gradient_of_x0(problem):
    p = problem()
    x0 = p.x0.clone().requires_grad_()
    cotangent = torch.randn_like(x0)
    (got,) = torch.autograd.grad(p.noise(x0=x0), x0, cotangent)
    assert torch.equal(got, cotangent * p.table[p.timesteps, 0].view(-1, 1, 1, 1))


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x0": torch.zeros(4, 3, dtype=torch.complex64)}, "x0: expected a float32, bfloat16 or float16 tensor"),
        ({"x0": torch.zeros(4, 3, dtype=torch.float64)}, "x0: expected a float32, bfloat16 or float16 tensor"),
        ({"x0": torch.zeros(4, 3, dtype=torch.int64)}, "x0: expected a float32, bfloat16 or float16 tensor"),
        ({"x0": torch.tensor(1.0)}, r"x0: expected .* of shape \[B, ...\]"),
        ({"x0": [1.0]}, "x0: expected .*received list"),
        ({"sample_ids": torch.arange(3)}, r"sample_ids: expected an int64 tensor of shape \[4\].*length 3"),
        ({"fixed_ids": torch.arange(5)}, "fixed_ids: expected .*length 5"),
        ({"timesteps": torch.arange(4).float()}, "timesteps: expected an int64 tensor"),
        ({"timesteps": torch.tensor([0, 1, 2, 20])}, "timesteps: expected values from 0 to 19, received 20"),
        ({"timesteps": torch.tensor([0, 1, 2, -1])}, "timesteps: expected values from 0 to 19, received -1"),
        ({"sample_ids": torch.tensor([0, 1, 2, -1])}, "sample_ids: expected values from 0"),
        ({"table": torch.zeros(20, 6)}, r"table: expected a float32 tensor of shape \[T, 7\]"),
        ({"table": torch.zeros(20, 7, dtype=torch.float64)}, r"table: expected a float32 tensor of shape \[T, 7\]"),
        ({"table": torch.full((20, 7), float("nan"))}, "table: expected finite rows, received row"),
        ({"key": torch.zeros(2, dtype=torch.int32)}, "key: expected an int64 tensor"),
        ({"key": torch.zeros(2, dtype=torch.int64, device="meta")}, "key: expected a tensor on cpu"),
        ({"table": torch.zeros(20, 7, device="meta")}, "table: expected a tensor on cpu.*received one on meta"),
    ],
)
def test_bad_input(problem, change, message, backend):
    with pytest.raises(InputError, match=message):
        problem().noise(backend, **change)


def test_a_bad_row_that_is_not_used_does_no_harm(problem):
    p = problem()
    table = p.table.clone()
    table[[row for row in range(20) if row not in p.timesteps.tolist()]] = float("inf")
    assert torch.equal(p.noise(table=table), p.noise())


def test_an_unavailable_backend_says_why(problem):
    with pytest.raises(BackendUnavailableError, match="backend 'cuda' cannot compute 'noise' on cpu"):
        problem().noise("cuda")
    with pytest.raises(InputError, match="backend: expected one of auto, cuda"):
        problem().noise("gpu")
