"""Guidance rules: against a plain loop written here, and against scipy's local minima."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.signal import argrelextrema

from memfast import models, sampling, schedules
from memfast.foundation.errors import InputError
from memfast.sampling import GUIDANCES, Delayed, DynamicTransition, Level, choose_guidance, ddim, heun

SHAPE = (1, 6, 5)
SCHEDULE = schedules.linear(1000)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    made = models.build({"kind": "mlp", "item_shape": SHAPE, "width": 24, "blocks": 1, "num_classes": 4})
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def plain_ddim(network, labels, scale_at, steps, count):
    """DDIM by its two lines; scale_at(timestep, gaps so far, newest last) gives the scales [B]."""
    x = sampling.initial_noise(torch.arange(count), SHAPE)
    visited = sampling.levels(SCHEDULE, steps)
    gaps = []
    with torch.no_grad():
        for now, following in pairwise(visited):
            times = torch.full((count,), now.timestep)
            with_labels, without = network(x, times, labels), network(x, times, None)
            gaps.append((with_labels - without).double().flatten(1).norm(dim=1))
            scale = torch.as_tensor(scale_at(now.timestep, gaps)).float().view(-1, 1, 1, 1)
            noise = without + scale * (with_labels - without)
            x0 = (x - now.sigma * noise) / now.alpha
            x = following.alpha * x0 + following.sigma * noise
    return x


@pytest.mark.parametrize(("until", "before"), [(500, 0.0), (0.65, -2.0), (0.65, 1.0), (1000, 0.0), (0, 0.0)])
def test_delayed_guidance_is_the_plain_loop(network, until, before):
    labels, steps = torch.tensor([0, 1, 2]), 12
    switch = until if isinstance(until, int) else until * 999
    expected = plain_ddim(
        network, labels, lambda t, gaps: np.full(3, 4.0 if t <= switch else before), steps, len(labels)
    )
    found = ddim(
        network, SCHEDULE, shape=SHAPE, count=3, steps=steps, labels=labels, guidance=Delayed(until, 4.0, before)
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_rule_that_never_waits_is_plain_guidance(network):
    options = {"shape": SHAPE, "count": 5, "steps": 7, "labels": 2, "batch_size": 2}
    rule = ddim(network, SCHEDULE, guidance=Delayed(1000, 3.0), **options)
    assert torch.equal(rule, ddim(network, SCHEDULE, guidance=3.0, **options))


def scales_of(rule, gaps, times=None):
    """The rule's scales [S, B] for gaps [S, B]."""
    gaps = torch.as_tensor(np.array(gaps), dtype=torch.float64)
    rule.begin(gaps.shape[1])
    times = range(len(gaps), 0, -1) if times is None else times
    return np.stack([rule.scale(Level(t, t, 0.6, 0.8), gap).numpy() for t, gap in zip(times, gaps, strict=True)])


@pytest.mark.parametrize("seed", range(20))
def test_dynamic_transition_switches_one_state_after_scipys_first_minimum(seed):
    gaps = np.random.default_rng(seed).random((12, 9))
    found = scales_of(DynamicTransition(5.0, -1.0), gaps)
    for column in range(9):
        (minima,) = argrelextrema(gaps[:, column], np.less)
        expected = np.full(12, -1.0)
        if len(minima):
            expected[minima[0] + 1 :] = 5.0
        np.testing.assert_array_equal(found[:, column], expected)


def test_dynamic_transition_in_ddim_is_the_plain_loop(network):
    def scale_at(timestep, gaps):
        values = torch.stack(gaps).numpy()
        switched = [len(m) > 0 for m in (argrelextrema(column, np.less)[0] for column in values.T)]
        return np.where(switched, 3.0, 0.0)

    labels = torch.tensor([0, 1, 2, 3, 1])
    expected = plain_ddim(network, labels, scale_at, 20, 5)
    rule = DynamicTransition(3.0)
    found = ddim(network, SCHEDULE, shape=SHAPE, count=5, steps=20, labels=labels, guidance=rule, batch_size=5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.equal(found, ddim(network, SCHEDULE, shape=SHAPE, count=5, steps=20, labels=labels, guidance=0.0))


def test_the_second_gap_at_one_timestep_takes_the_place_of_the_first():
    """Heun's trial points: what they alone would decide is undone by the state's own gap."""
    gaps = [[5.0], [3.0], [9.0], [2.0], [4.0], [1.0], [6.0]]
    times = [9, 8, 7, 7, 6, 6, 5]
    # At 7 the trial's 9 looks like a rise, the state's 2 is none; at 6 likewise; at 5 the gap has really risen from 1.
    found = scales_of(DynamicTransition(7.0), gaps, times)[:, 0]
    assert found.tolist() == [0, 0, 7, 0, 7, 0, 7]


def test_heun_takes_a_rule(network):
    options = {"shape": SHAPE, "count": 3, "steps": 6, "labels": 1}
    assert torch.equal(
        heun(network, SCHEDULE, guidance=Delayed(1000, 2.0), **options),
        heun(network, SCHEDULE, guidance=2.0, **options),
    )
    assert torch.isfinite(heun(network, SCHEDULE, guidance=DynamicTransition(2.0, latest=0.3), **options)).all()


def test_latest_switches_who_has_not_switched():
    falling = [[6.0, 6.0], [5.0, 5.0], [4.0, 5.5], [3.0, 5.0], [2.0, 4.0]]
    found = scales_of(DynamicTransition(2.0, latest=2), falling, [5, 4, 3, 2, 1])
    assert found.tolist() == [[0, 0], [0, 0], [0, 2], [2, 2], [2, 2]]
    assert scales_of(DynamicTransition(2.0, latest=0.4), falling, [5, 4, 3, 2, 1]).tolist() == found.tolist()
    assert scales_of(DynamicTransition(2.0), falling)[-1].tolist() == [0, 2]


def test_a_rule_begins_anew_with_every_batch(network):
    options = {"shape": SHAPE, "count": 6, "steps": 15, "labels": 1}
    rule = DynamicTransition(4.0)
    whole = ddim(network, SCHEDULE, guidance=rule, batch_size=6, **options)
    torch.testing.assert_close(
        ddim(network, SCHEDULE, guidance=rule, batch_size=4, **options), whole, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    "rule",
    [
        Delayed(0.5, 7.5, -2.0), Delayed(600, 3.0), DynamicTransition(7.5, latest=0.2),
        Delayed(0.5, np.float32(7.5), np.int64(-2)),
    ],
    ids=["share", "timestep", "dynamic", "numpy"],
)  # fmt: skip
def test_a_rule_survives_its_file(rule):
    assert choose_guidance(json.loads(json.dumps(rule.to_dict()))).to_dict() == rule.to_dict()
    assert rule.to_dict()["name"] in GUIDANCES


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"name": "late"}, "guidance: expected one of delayed, dynamic, received 'late'"),
        ({"name": "delayed", "until": 0.5}, r"guidance delayed: expected its own arguments \(until, scale, before\)"),
        ({"name": "delayed", "until": 1.5, "scale": 2.0}, "until: expected a timestep"),
        ({"name": "delayed", "until": -1, "scale": 2.0}, "until: expected a timestep"),
        ({"name": "dynamic", "scale": "much"}, "scale: expected a finite number, received 'much'"),
    ],
)
def test_bad_rules_are_refused_in_words(wanted, text):
    with pytest.raises(InputError, match=text):
        choose_guidance(wanted)
