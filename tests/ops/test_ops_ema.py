"""Several moving averages in one pass."""

import pytest
import torch
from ops_cases import DTYPES

from memfast import ops
from memfast.foundation.errors import InputError

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
