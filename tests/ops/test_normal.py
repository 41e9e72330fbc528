"""The normals: accuracy against float64, the same bits everywhere, addresses, and their statistics."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from memfast import ops
from memfast.foundation.errors import InputError
from memfast.ops.reference.random import box_muller

# (sample id, element, value) under seed 0, step 0: the largest of the first 2**27 elements of three samples.
EXTREMES = [(1, 30916440, -6.252260684967041), (3, 55611386, 5.993203639984131), (2, 15580425, -5.990947723388672)]
# 4.2 million normals: standard errors of the moments follow from this number.
DRAWS = (64, 65536)


@pytest.fixture(scope="module")
def normals():
    return ops.standard_normal(torch.arange(DRAWS[0]), DRAWS[1], ops.key(2024, 5)).numpy().astype(np.float64)


def test_within_4_ulp_of_float64_box_muller():
    generator = torch.Generator().manual_seed(0)
    corners = torch.tensor([0, 1, 2, 2**31 - 1, 2**31, 2**32 - 129, 2**32 - 1, 0x1FFFFFFF, 0x20000000, 0x60000000])
    radius = torch.cat((torch.randint(0, 2**32, (1_000_000,), generator=generator), corners.repeat_interleave(10)))
    angle = torch.cat((torch.randint(0, 2**32, (1_000_000,), generator=generator), corners.repeat(10)))
    u = (radius.numpy().astype(np.float32) + np.float32(0.5)).astype(np.float64) / 2**32
    # The uniform angle as the float32 that the definition sees: the rest after the nearest quarter turn, rounded.
    quarter = ((angle.numpy() + 0x20000000) & 0xFFFFFFFF) >> 30
    rest = angle.numpy() - (quarter << 30)
    rest = np.where(rest >= 2**31, rest - 2**32, rest).astype(np.float32).astype(np.float64)
    theta = rest * (2 * np.pi / 2**32)
    cosine = np.choose(quarter & 3, [np.cos(theta), -np.sin(theta), -np.cos(theta), np.sin(theta)])
    sine = np.choose(quarter & 3, [np.sin(theta), np.cos(theta), -np.sin(theta), -np.cos(theta)])
    size = np.sqrt(-2 * np.log(u))
    for got, exact in zip(box_muller(radius, angle), (size * cosine, size * sine), strict=True):
        ulp = np.spacing(np.maximum(np.abs(exact), np.finfo(np.float32).tiny).astype(np.float32)).astype(np.float64)
        assert np.max(np.abs(got.numpy().astype(np.float64) - exact) / ulp) <= 4.0


@pytest.mark.parametrize("offset", [0, 1, 2, 3, 4, 2**32 + 2, 2**34 - 70000])
@pytest.mark.parametrize("numel", [0, 1, 63, 500, 16389])
def test_kernels_equal_the_reference(isa, numel, offset):
    ids = torch.tensor([0, 2**32 - 1, 2**32, 2**56 - 1])
    arguments = (ids, numel, ops.key(-1, 3), "initial")
    got = ops.standard_normal(*arguments, backend="cpu", offset=offset)
    assert torch.equal(got, ops.standard_normal(*arguments, backend="reference", offset=offset))


def test_every_element_is_written(isa, poisoned):
    assert not ops.standard_normal(torch.arange(3), 20011, ops.key(1), offset=1).isnan().any()


def test_noise_does_not_depend_on_the_batch():
    ids = torch.tensor([5, 9, 2**40])
    whole = ops.standard_normal(ids, 100, ops.key(3, 1))
    assert torch.equal(whole[1:2], ops.standard_normal(ids[1:2], 100, ops.key(3, 1)))
    assert torch.equal(whole.flip(0), ops.standard_normal(ids.flip(0), 100, ops.key(3, 1)))
    assert torch.equal(whole[:, 37:], ops.standard_normal(ids, 63, ops.key(3, 1), offset=37))


def test_threads_do_not_change_a_bit():
    ids, before = torch.arange(5), torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(ops.standard_normal(ids, 50001, ops.key(8)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("order", range(1, 9))
def test_moments_to_order_8(normals, order):
    def moment(k):
        return 0.0 if k % 2 else float(math.prod(range(1, k, 2)))

    error = math.sqrt((moment(2 * order) - moment(order) ** 2) / normals.size)
    assert abs(np.mean(normals**order) - moment(order)) < 4.5 * error


def test_kolmogorov_smirnov(normals):
    assert stats.kstest(normals[:16].ravel(), "norm").pvalue > 1e-3


def test_each_place_of_a_quadruple_is_normal(normals):
    for place in range(4):
        assert stats.kstest(normals[:8, place::4].ravel(), "norm").pvalue > 1e-3


def correlation_is_small(a, b):
    a, b = np.ravel(a), np.ravel(b)
    powers = ((a, b, 1.0), (a**2, b**2, 4.0), (np.abs(a), np.abs(b), (1 - 2 / math.pi) ** 2))
    return all(
        abs(np.mean(x * y) - np.mean(x) * np.mean(y)) < 4.5 * math.sqrt(variance / a.size) for x, y, variance in powers
    )


@pytest.mark.parametrize("distance", [1, 2, 3, 4, 8, 32, 64])
def test_adjacent_elements_are_independent(normals, distance):
    assert correlation_is_small(normals[:, :-distance], normals[:, distance:])


def test_samples_are_independent(normals):
    assert correlation_is_small(normals[:-1], normals[1:])


@pytest.mark.parametrize("other", ["step", "stream", "seed", "high id"])
def test_addresses_are_independent(normals, other):
    ids = torch.arange(DRAWS[0]) + (2**32 if other == "high id" else 0)
    key = ops.key(2025 if other == "seed" else 2024, 6 if other == "step" else 5)
    again = ops.standard_normal(ids, DRAWS[1], key, "fixed" if other == "stream" else "noise").numpy()
    assert correlation_is_small(normals, again.astype(np.float64))


def test_tails_reach_beyond_six(isa):
    word = torch.tensor([0, 1, 8, 64])
    cosine, _ = box_muller(word, torch.zeros_like(word))
    assert cosine[0] == pytest.approx(math.sqrt(66 * math.log(2)), rel=1e-6)
    assert cosine[3] > 6.0
    for sample, element, expected in EXTREMES:
        got = ops.standard_normal(torch.tensor([sample]), 1, ops.key(0), offset=element, backend="cpu")
        assert float(got) == pytest.approx(expected, abs=1e-5)
        assert abs(expected) > 5.9


def test_tail_fractions(normals):
    for bound in (3.0, 4.0, 4.5):
        expected = 2 * stats.norm.sf(bound) * normals.size
        assert abs(np.sum(np.abs(normals) > bound) - expected) < 4.5 * math.sqrt(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": torch.zeros(2)}, "key: expected an int64 tensor of shape"),
        ({"key": torch.zeros(3, dtype=torch.int64)}, "key: expected an int64 tensor of shape"),
        ({"key": torch.tensor([0, -1])}, "key: expected a step from 0"),
        ({"key": torch.tensor([0, 2**32])}, "key: expected a step from 0"),
        ({"sample_ids": torch.tensor([-1])}, "sample_ids: expected values from 0"),
        ({"sample_ids": torch.tensor([2**56])}, "sample_ids: expected values from 0"),
        ({"sample_ids": torch.zeros(1)}, "sample_ids: expected an int64 tensor"),
        ({"sample_ids": [1, 2]}, "sample_ids: expected an int64 tensor"),
        ({"numel": -1}, "from 0 to 2"),
        ({"offset": 2**34}, "from 0 to 2"),
        ({"stream": "nose"}, "stream: expected one of noise"),
        ({"stream": 256}, "stream: expected a whole number from 0 to 255"),
        ({"stream": True}, "stream: expected a whole number from 0 to 255"),
    ],
)
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_bad_input(change, message, backend):
    arguments = {"sample_ids": torch.tensor([1]), "numel": 4, "key": ops.key(0), **change}
    with pytest.raises(InputError, match=message):
        ops.standard_normal(**arguments, backend=backend)
