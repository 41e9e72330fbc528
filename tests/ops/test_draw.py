"""Timestep draws against Python's big integers, and their distribution."""

import numpy as np
import pytest
import torch
from scipy import stats

from memfast import ops
from memfast.foundation.errors import InputError


def thresholds_of(masses):
    cumulative, last = np.cumsum(np.asarray(masses, dtype=np.float64)), int(np.nonzero(masses)[0][-1])
    return torch.tensor([int(c * 2.0**64) - 2**63 for c in cumulative[:last]], dtype=torch.int64)


def words_of(ids, key):
    """The 64-bit words of the draws, as Python integers."""
    counter = torch.stack(
        (torch.zeros_like(ids), ids & 0xFFFFFFFF, key[1].expand(len(ids)), (1 << 24) | (ids >> 32)), 1
    )
    seed = torch.stack((key[0] & 0xFFFFFFFF, (key[0] >> 32) & 0xFFFFFFFF))
    return [w[0] | w[1] << 32 for w in ops.philox(counter, seed).tolist()]


IDS = torch.cat((torch.arange(500), torch.arange(500) * (2**56 // 500)))


@pytest.mark.parametrize("count", [0, 1, 63, 999])
def test_equals_big_integers(isa, count):
    generator = torch.Generator().manual_seed(count)
    thresholds = torch.randint(-(2**63), 2**63 - 1, (count,), generator=generator).sort().values
    key = ops.key(2**64 - 1, 12)
    got = ops.draw_timesteps(thresholds, IDS, key, backend="cpu")
    expected = [sum(t <= word - 2**63 for t in thresholds.tolist()) for word in words_of(IDS, key)]
    assert got.tolist() == expected
    assert torch.equal(got, ops.draw_timesteps(thresholds, IDS, key, backend="reference"))


@pytest.mark.parametrize("total", [1000, 1001, 2**31 - 1, 2**31])
def test_stratified_equals_big_integers(isa, total):
    generator = torch.Generator().manual_seed(total)
    thresholds = torch.randint(-(2**63), 2**63 - 1, (999,), generator=generator).sort().values
    positions = torch.randint(0, total, (1000,), generator=generator)
    key = ops.key(5, 6)
    arguments = {"positions": positions, "total": total}
    got = ops.draw_timesteps(thresholds, IDS, key, backend="cpu", **arguments)
    words = [((p << 64) + w) // total for p, w in zip(positions.tolist(), words_of(IDS, key), strict=True)]
    assert got.tolist() == [sum(t <= word - 2**63 for t in thresholds.tolist()) for word in words]
    assert torch.equal(got, ops.draw_timesteps(thresholds, IDS, key, backend="reference", **arguments))


def test_threshold_is_inclusive():
    key, ids = ops.key(1, 1), torch.arange(1)
    (word,) = words_of(ids, key)
    for shift, expected in ((-1, 1), (0, 1), (1, 0)):
        assert ops.draw_timesteps(torch.tensor([word - 2**63 + shift]), ids, key).tolist() == [expected]


def test_distribution_is_that_of_the_masses():
    masses = np.array([0.0, 0.1, 0.0, 0.25, 0.05, 0.6, 0.0, 0.0])
    drawn = ops.draw_timesteps(thresholds_of(masses), torch.arange(200_000), ops.key(7, 7)).numpy()
    counts = np.bincount(drawn, minlength=8)
    assert not counts[masses == 0].any()
    assert stats.chisquare(counts[masses > 0], masses[masses > 0] * len(drawn)).pvalue > 1e-3


def test_stratified_draws_fill_every_stratum():
    masses = np.full(100, 0.01)
    batch = torch.arange(1000)
    drawn = ops.draw_timesteps(thresholds_of(masses), batch, ops.key(7), positions=batch, total=1000)
    counts = np.bincount(drawn.numpy(), minlength=100)
    assert counts.min() >= 9
    assert counts.max() <= 11


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_empty_batch_and_single_step(backend):
    none = torch.zeros(0, dtype=torch.int64)
    assert ops.draw_timesteps(none, none, ops.key(0), backend=backend).shape == (0,)
    assert ops.draw_timesteps(none, torch.arange(3), ops.key(0), backend=backend).tolist() == [0, 0, 0]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": torch.zeros(3)}, "thresholds: expected an int64 tensor"),
        ({"sample_ids": torch.tensor([-1, 0])}, "sample_ids: expected values from 0"),
        ({"positions": torch.tensor([0, 1])}, "total: expected the size of the global batch"),
        ({"positions": torch.tensor([0, 2]), "total": 2}, "positions: expected values from 0 to 1, received 2"),
        ({"positions": torch.tensor([0]), "total": 2}, "positions: expected .*length 1"),
        ({"positions": torch.tensor([0, 1]), "total": 2**31 + 1}, "total: expected"),
    ],
)
def test_bad_input(change, message, backend):
    arguments = {"thresholds": torch.zeros(3, dtype=torch.int64), "sample_ids": torch.tensor([1, 2]), **change}
    with pytest.raises(InputError, match=message):
        ops.draw_timesteps(key=ops.key(0), backend=backend, **arguments)
