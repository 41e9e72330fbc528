"""The decomposition is ordinary least squares, and follows DDIM's closed form for a constant estimate."""

import itertools

import numpy as np
import pytest
import torch

from memfast import schedules
from memfast.foundation.errors import InputError
from memfast.sampling import ddim
from memfast.trace import constant_estimate_weights, decompose, deviation_scores, record, schedule_weights

SHAPE = (2, 5, 7)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_equals_lstsq(dtype):
    states, target, initial = (
        normal(6, 3, *SHAPE).to(dtype), normal(3, *SHAPE, seed=1).to(dtype), normal(3, *SHAPE, seed=2).to(dtype),
    )  # fmt: skip
    found = decompose(states, target, initial)
    for step in range(6):
        for sample in range(3):
            design = np.stack([target[sample].double().numpy().ravel(), initial[sample].double().numpy().ravel()], 1)
            state = states[step, sample].double().numpy().ravel()
            expected, rest, *_ = np.linalg.lstsq(design, state, rcond=None)
            assert found.w_target[step, sample] == pytest.approx(expected[0], abs=1e-12)
            assert found.w_initial[step, sample] == pytest.approx(expected[1], abs=1e-12)
            assert found.residual[step, sample] == pytest.approx(np.sqrt(rest[0] / len(state)), rel=1e-9)


def test_one_target_serves_all_samples_and_states_may_be_streamed():
    states, target, initial = normal(4, 3, *SHAPE), normal(*SHAPE, seed=1), normal(3, *SHAPE, seed=2)
    whole = decompose(states, target.expand(3, *SHAPE), initial)
    streamed = decompose((state for state in states), target, initial)
    assert torch.equal(whole.w_target, streamed.w_target)


@pytest.mark.parametrize("overestimate", [1.0, 1.7])
def test_ddim_recursion_equals_the_closed_form(overestimate):
    """The recursion of a constant estimate in float64, for the 50 levels of a DDIM run."""
    bars = schedules.scaled_linear(1000).alphas_cumprod[::-20]
    w_target, w_initial = [0.0], [1.0]
    for a, b in itertools.pairwise(bars):
        ratio = np.sqrt((1 - b) / (1 - a))
        w_target.append(np.sqrt(b) * overestimate + ratio * (w_target[-1] - np.sqrt(a) * overestimate))
        w_initial.append(ratio * w_initial[-1])
    lines = constant_estimate_weights(bars, overestimate)
    np.testing.assert_allclose(lines.w_target, w_target, atol=1e-12)
    np.testing.assert_allclose(lines.w_initial, w_initial, atol=1e-12)


def test_a_recorded_run_of_a_perfect_memorizer_follows_the_closed_form():
    target = normal(*SHAPE, seed=3)
    schedule = schedules.linear(1000)
    run = record(
        ddim, lambda x, t, labels=None: target.expand_as(x), schedule, target=target, mean=torch.zeros(SHAPE),
        shape=SHAPE, count=3, steps=10, prediction_type="sample", keep_states=True,
    )  # fmt: skip
    lines = constant_estimate_weights(run.alpha_bar)
    np.testing.assert_allclose(run.w_target, np.repeat(lines.w_target[:, None], 3, 1), atol=1e-5)
    np.testing.assert_allclose(run.w_initial, np.repeat(lines.w_initial[:, None], 3, 1), atol=1e-5)
    assert run.residual.max() < 1e-5
    assert run.overestimation == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(run.alignment, 1.0, atol=1e-6)
    assert run.loss.max() < 1e-8
    assert run.alpha_bar[-1] == pytest.approx(1.0)
    assert run.diversity[0] > 5
    assert run.diversity[-1] < 1e-4
    assert run.states.shape == (11, 3, *SHAPE)
    assert run.deviation.d1 == pytest.approx(np.sum(lines.w_target - np.sqrt(run.alpha_bar)), abs=1e-4)


def test_scores_are_zero_on_the_schedules_lines():
    bars = schedules.linear(1000).alphas_cumprod[::-100]
    lines = schedule_weights(bars)
    scores = deviation_scores(lines.w_target[:, None], lines.w_initial[:, None], bars)
    assert scores.d1 == pytest.approx(0, abs=1e-12)
    assert scores.d2 == pytest.approx(0, abs=1e-12)


def test_what_is_refused():
    states, noise = normal(2, 3, *SHAPE), normal(3, *SHAPE, seed=1)
    parallel = normal(3, *SHAPE, seed=2)
    parallel[1] = -2 * noise[1]
    with pytest.raises(InputError, match="sample 1: expected a target that is not parallel"):
        decompose(states, parallel, noise)
    with pytest.raises(InputError, match=r"states\[0\].*expected 3 items of 70 values"):
        decompose(normal(2, 3, 4), normal(*SHAPE), noise)
    bad = states.clone()
    bad[1, 0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match=r"states\[1\].*finite"):
        decompose(bad, normal(*SHAPE), noise)
    with pytest.raises(InputError, match="at least one moment"):
        decompose([], normal(*SHAPE), noise)
