"""The sample order: a permutation for every epoch, a function of the seed, uniform, and without a short batch."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from memfast.foundation.errors import InputError
from memfast.ops.reference.random import philox
from memfast.training import SampleOrder, epoch_order
from memfast.training.data import first_words


@pytest.mark.parametrize("count", [1, 2, 63, 500, 1000])
def test_every_epoch_is_a_permutation_of_its_own(count):
    orders = [epoch_order(3, epoch, count) for epoch in range(3)]
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(count))
    if count >= 63:
        assert not torch.equal(orders[0], orders[1])
        assert not torch.equal(epoch_order(4, 0, count), orders[0])
    assert torch.equal(epoch_order(3, 1, count), orders[1])


def test_the_order_is_the_sort_of_64_bit_philox_words():
    seed, epoch, count = 2**40 + 5, 7, 100
    key = torch.tensor([seed & 0xFFFFFFFF, seed >> 32])
    words = []
    for item in range(count):
        w = philox(torch.tensor([0, item, epoch, 6 << 24]), key)
        words.append(int(w[0]) | int(w[1]) << 32)
    assert epoch_order(seed, epoch, count).tolist() == sorted(range(count), key=lambda item: (words[item], item))


def test_all_orders_of_four_items_are_equally_likely():
    counts = {}
    for epoch in range(4800):
        order = tuple(epoch_order(0, epoch, 4).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == math.factorial(4)
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4


def test_first_words_depend_on_every_part_of_the_address():
    ids, key = torch.tensor([1, 2, 2**32 + 1, 2**50]), torch.tensor([5, 6])
    words = first_words(ids, key, "order")
    assert len({tuple(pair.tolist()) for pair in words}) == 4
    assert not torch.equal(words, first_words(ids, key, "augmentation"))
    assert not torch.equal(words, first_words(ids, torch.tensor([5, 7]), "order"))
    assert not torch.equal(words, first_words(ids, torch.tensor([5 + 2**32, 6]), "order"))


@pytest.mark.parametrize(("count", "batch"), [(10, 4), (3, 8), (1, 5), (64, 64), (63, 10)])
def test_batches_run_through_the_epochs_without_a_gap(count, batch):
    order = SampleOrder(1, count, batch)
    steps = 3 * count
    drawn = [order.batch(step) for step in range(steps)]
    indices, ids = (torch.cat(part) for part in zip(*drawn, strict=True))
    assert len(ids.unique()) == len(ids) == steps * batch
    assert torch.equal(ids % count, indices)
    whole = len(ids) // count
    assert torch.equal(
        indices[: whole * count].reshape(whole, count).sort(1).values, torch.arange(count).expand(whole, count)
    )
    assert torch.equal(ids[: whole * count] // count, torch.arange(whole).repeat_interleave(count))


def test_a_step_can_be_asked_for_out_of_turn():
    order = SampleOrder(1, 10, 4)
    straight = [order.batch(step)[0] for step in range(30)]
    again = SampleOrder(1, 10, 4)
    for step in np.random.default_rng(0).permutation(30):
        assert torch.equal(again.batch(int(step))[0], straight[step])


def test_empty_data_and_batches_are_refused():
    with pytest.raises(InputError, match="training data: expected at least one item"):
        SampleOrder(0, 0, 4)
    with pytest.raises(InputError, match="batch_size: expected a whole number of at least 1"):
        SampleOrder(0, 5, 0)
