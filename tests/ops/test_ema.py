"""Several moving averages in one pass."""

import pytest
import torch

from memfast import ops
from memfast.foundation.errors import InputError
from tests.ops.ops_cases import DTYPES

DECAYS = [0.0, 0.9, 0.9999, 1.0]


def case(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = [(1,), (63,), (40, 70), (100_003,), (0,)]
    parameters = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    averages = [[torch.randn(shape, generator=generator) for shape in shapes] for _ in DECAYS]
    return parameters, averages


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_kernel_equals_the_reference_and_float64(isa, dtype):
    parameters, averages = case(dtype)
    exact = [
        [a.double() + (1 - decay) * (p.double() - a.double()) for p, a in zip(parameters, tensors, strict=True)]
        for decay, tensors in zip(DECAYS, averages, strict=True)
    ]
    reference = [[a.clone() for a in tensors] for tensors in averages]
    ops.ema(parameters, averages, DECAYS, backend="cpu")
    ops.ema(parameters, reference, DECAYS, backend="reference")
    for got, same, truth in zip(averages, reference, exact, strict=True):
        for a, b, c in zip(got, same, truth, strict=True):
            assert torch.equal(a, b)
            torch.testing.assert_close(a.double(), c, rtol=2e-7, atol=5e-7)


def test_follows_foreach_lerp():
    parameters, averages = case()
    expected = [[a.clone() for a in tensors] for tensors in averages]
    for decay, tensors in zip(DECAYS, expected, strict=True):
        torch._foreach_lerp_(tensors, parameters, 1 - decay)
    ops.ema(parameters, averages, DECAYS)
    for got, peer in zip(averages, expected, strict=True):
        for a, b in zip(got, peer, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_tensors_of_any_stride_and_parameters_with_gradients():
    weight = torch.randn(6, 4, requires_grad=True)
    average, spread = torch.zeros(4, 6).t(), torch.zeros(6, 8)[:, ::2]
    ops.ema([weight], [[average], [spread]], torch.tensor([0.5, 0.25]))
    torch.testing.assert_close(average, weight.detach() / 2)
    torch.testing.assert_close(spread, weight.detach() * 0.75)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_weights_in_channels_last_are_read_where_they_lie(backend, monkeypatch):
    """Copies would cost more than the average, and a captured graph could not find them again."""
    weight = torch.randn(5, 3, 4, 2).to(memory_format=torch.channels_last)
    averages = [torch.randn(5, 3, 4, 2) for _ in range(2)]
    expected = [
        average + (1 - decay) * (weight - average) for average, decay in zip(averages, (0.5, 0.25), strict=True)
    ]
    averages = [average.to(memory_format=torch.channels_last) for average in averages]
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "contiguous", lambda *_: pytest.fail("a copy was made"))
        ops.ema([weight], [[average] for average in averages], [0.5, 0.25], backend=backend)
    for average, truth in zip(averages, expected, strict=True):
        torch.testing.assert_close(average, truth)
    # One in another order than the weight: through a copy.
    mixed = torch.zeros(5, 3, 4, 2)
    ops.ema([weight], [[mixed]], [0.0], backend=backend)
    assert torch.equal(mixed, weight)


def test_tensors_without_memory_of_their_own_are_refused():
    """A DTensor's address is 0: the kernel would read there."""

    class Spread(torch.Tensor):
        @classmethod
        def __torch_dispatch__(cls, *_):
            pytest.fail("an op was called")

    held, without = torch.randn(3), torch.Tensor._make_wrapper_subclass(Spread, (3,))
    message = r"expected a tensor with memory of its own, received a Spread\. Of a DTensor .*to_local"
    with pytest.raises(InputError, match=f"parameters: {message}"):
        ops.ema([without], [[held]], [0.5])
    with pytest.raises(InputError, match=f"averages: {message}"):
        ops.ema([held], [[without]], [0.5])


def test_nothing_to_do():
    ops.ema([], [[]], [0.5])
    ops.ema([torch.ones(2)], [], [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decays": [0.5]}, "decays: expected 4 numbers from 0 to 1"),
        ({"decays": [0.5, 0.5, 0.5, 1.5]}, "decays: expected 4 numbers from 0 to 1"),
        ({"averages": [[torch.zeros(1)]] * 4}, "averages: expected 5 tensors in each list"),
        ({"parameters": [torch.zeros(2)] * 5}, r"averages: expected float32 \[2\]"),
        ({"parameters": [torch.zeros(1, dtype=torch.int64)] * 5}, "parameters: expected float32"),
    ],
)
def test_bad_input(change, message):
    parameters, averages = case()
    with pytest.raises(InputError, match=message):
        ops.ema(**{"parameters": parameters, "averages": averages, "decays": DECAYS, **change})
