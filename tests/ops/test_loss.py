"""The loss and its gradient: against float64, autograd of the plain formula, and the reference."""

import pytest
import torch

from memfast import ops
from memfast.foundation.errors import InputError
from tests.ops.ops_cases import DTYPES, INSTRUCTION_SETS, SHAPES, use_instruction_set


def random_prediction(p, dtype, seed=1):
    return torch.randn(p.x0.shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fixed", [False, True], ids=["fresh", "fixed"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernels_equal_the_reference(isa, problem, shape, fixed, dtype):
    for data_dtype in {dtype, torch.float32}:
        p = problem(shape, data_dtype, fixed)
        for reduction in ("mean", "none"):
            mine, theirs = (random_prediction(p, dtype).requires_grad_() for _ in range(2))
            got, expected = p.loss(mine, reduction, "cpu"), p.loss(theirs, reduction, "reference")
            torch.testing.assert_close(got, expected, rtol=3e-7, atol=0)
            got.sum().backward()
            expected.sum().backward()
            assert mine.grad.dtype == dtype
            assert torch.equal(mine.grad, theirs.grad)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_error_at_most_twice_that_of_plain_pytorch(isa, problem, dtype, reduction):
    p = problem((4, 3, 33, 7), dtype)
    cotangent = torch.rand(() if reduction == "mean" else (4,), generator=torch.Generator().manual_seed(5)) + 0.5
    k_p, target = p.target()

    def plain(prediction, as_type):
        residual = k_p.to(as_type) * prediction - target.to(as_type)
        each = (residual**2).flatten(1).mean(1)
        return each.mean() if reduction == "mean" else each

    def run(function, as_type):
        prediction = random_prediction(p, dtype).to(as_type).requires_grad_()
        value = function(prediction)
        (gradient,) = torch.autograd.grad(value, prediction, cotangent.to(value.dtype))
        return value.detach().double(), gradient.double()

    exact = run(lambda prediction: plain(prediction, torch.float64), torch.float64)
    theirs = run(lambda prediction: plain(prediction, dtype), dtype)
    mine = run(lambda prediction: p.loss(prediction, reduction, "cpu"), dtype)
    for got, peer, truth in zip(mine, theirs, exact, strict=True):
        # One unit in the last place of the largest result, where the peer happens to be exact.
        floor = torch.finfo(dtype if got.ndim == 4 else torch.float32).eps * truth.abs().max()
        assert (got - truth).abs().max() <= 2 * (peer - truth).abs().max() + floor


def test_loss_is_the_same_for_every_instruction_set_and_thread_count(problem):
    p, before, results = problem((3, 40003)), torch.get_num_threads(), []
    prediction = random_prediction(p, torch.float32)
    try:
        for name in INSTRUCTION_SETS:
            use_instruction_set(name)
            for threads in (1, 2, 5):
                torch.set_num_threads(threads)
                results.append(p.loss(prediction, "none", "cpu"))
    finally:
        torch.set_num_threads(before)
        use_instruction_set("best")
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_accurate_over_many_elements():
    """Four million squares: the sum is float64 from 16 terms on."""
    numel, zero = 2**22, torch.zeros(1, dtype=torch.int64)
    table = torch.tensor([[1.0, 0, 0, 1, 0, 0, 0.5]])
    prediction = torch.full((1, numel), 0.1)
    noise = ops.standard_normal(zero, numel, ops.key(0)).double()
    exact = float(((prediction.double() - 0.5 * noise) ** 2).mean())
    got = float(ops.loss(prediction, torch.zeros(1, numel), table, zero, zero, ops.key(0)))
    assert got == pytest.approx(exact, rel=2e-7)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradient_layout_and_poison(isa, problem, dtype, poisoned):
    p = problem((4, 3, 9, 7), dtype)
    expected = random_prediction(p, dtype).requires_grad_()
    p.loss(expected, backend="reference").backward()
    prediction = random_prediction(p, dtype).to(memory_format=torch.channels_last).requires_grad_()
    p.loss(prediction, backend="cpu").backward()
    assert torch.equal(prediction.grad, expected.grad)
    assert prediction.grad.is_contiguous(memory_format=torch.channels_last)


def test_repeated_backward_and_accumulation(problem):
    p = problem()
    prediction = random_prediction(p, torch.float32).requires_grad_()
    value = p.loss(prediction)
    (once,) = torch.autograd.grad(value, prediction, retain_graph=True)
    (twice,) = torch.autograd.grad(value, prediction, retain_graph=True)
    assert torch.equal(once, twice)
    value.backward(retain_graph=True)
    value.backward(retain_graph=True)
    assert torch.equal(prediction.grad, 2 * once)
    (half,) = torch.autograd.grad(value / 2, prediction, retain_graph=True)
    assert torch.equal(half, once / 2)
    (summed,) = torch.autograd.grad(value + value * 3, prediction)
    torch.testing.assert_close(summed, 4 * once)


def test_a_hook_that_writes_into_the_gradient_cannot_spoil_the_next_backward(problem):
    p = problem()
    prediction = (leaf := random_prediction(p, torch.float32).requires_grad_()) * 1
    prediction.register_hook(lambda gradient: gradient.mul_(0))
    value = p.loss(prediction)
    value.backward(retain_graph=True)
    assert not leaf.grad.any()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_float16_keeps_gradients_that_a_scaler_can_lift():
    """2 / (B * D) of a million elements is below float16's smallest number; times the scale it is not."""
    shape, zero = (64, 16384), torch.zeros(64, dtype=torch.int64)
    table = torch.tensor([[1.0, 0, 0, 1, 0, 0, 1]])
    prediction = torch.zeros(shape, dtype=torch.float16, requires_grad=True)
    value = ops.loss(prediction, prediction.detach(), table, zero, torch.arange(64), ops.key(0))
    (value * 65536.0).backward()
    noise = ops.standard_normal(torch.arange(64), 16384, ops.key(0))
    expected = (-noise * (2 * 65536 / (64 * 16384))).half()
    torch.testing.assert_close(prediction.grad, expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (4, 0)], ids=str)
def test_empty_batches(problem, shape, backend):
    p = problem(shape)
    prediction = random_prediction(p, torch.float32).requires_grad_()
    value = p.loss(prediction, backend=backend)
    assert value.item() == 0.0
    value.backward()
    assert prediction.grad.shape == shape
    assert p.loss(prediction, "none", backend).tolist() == [0.0] * shape[0]


def test_no_second_derivative(problem):
    p = problem()
    prediction = random_prediction(p, torch.float32).requires_grad_()
    with pytest.raises(RuntimeError, match="has no second derivative"):
        torch.autograd.grad(p.loss(prediction), prediction, create_graph=True)


def test_no_gradient_is_computed_where_none_is_wanted(problem):
    p = problem()
    prediction = random_prediction(p, torch.float32).requires_grad_()
    with torch.no_grad():
        assert not p.loss(prediction).requires_grad
    assert not p.loss(prediction.detach()).requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": torch.zeros(4, 6, 8, 8)}, r"prediction: expected the shape of x0, \[4, 3, 8, 8\].*variance"),
        ({"prediction": torch.zeros(4, 3, 8, 8, dtype=torch.complex64)}, "prediction: expected a float32"),
        ({"prediction": torch.zeros(4, 3, 8, 8, dtype=torch.int32)}, "prediction: expected a float32"),
        ({"prediction": torch.zeros(4, 3, 8, 8, device="meta")}, "prediction: expected a tensor on cpu"),
        ({"x0": torch.zeros(4, 3, 8, 8, requires_grad=True)}, "x0: expected a tensor that needs no gradient"),
        ({"table": torch.zeros(20, 7, requires_grad=True)}, "table: expected a tensor that needs no gradient"),
        ({"reduction": "sum"}, "reduction: expected 'mean' or 'none', received 'sum'"),
        ({"timesteps": torch.tensor([0, 1, 2, 20])}, "timesteps: expected values from 0 to 19, received 20"),
        ({"key": torch.tensor([0, -1])}, "key: expected a step"),
    ],
)
def test_bad_input(problem, change, message):
    with pytest.raises(InputError, match=message):
        problem().loss(**{"prediction": torch.zeros(4, 3, 8, 8), **change})
