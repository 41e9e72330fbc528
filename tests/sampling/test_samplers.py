"""The samplers against diffusers, against the analytic solution for a Gaussian, and against their own contract."""

import functools
import math

import numpy as np
import pytest
import torch

from memfast import ops, sampling, schedules
from memfast.foundation.errors import InputError
from memfast.objective import DenoisingObjective
from memfast.sampling import ddim, ddpm, heun

diffusers = pytest.importorskip("diffusers")
SHAPE = (2, 5, 3)


class Wavy(torch.nn.Module):
    """A cheap network whose output depends on x and t in a way no sampler can get right by accident."""

    def forward(self, x, timesteps, labels=None):
        t = timesteps.float().view(-1, *[1] * (x.ndim - 1)) / 1000
        shift = 0 if labels is None else labels.float().view(-1, *[1] * (x.ndim - 1))
        return torch.sin(2 * x + 3 * t) * 0.8 + 0.1 * x + 0.2 * shift


def start(count=4):
    return sampling.initial_noise(torch.arange(count), SHAPE, seed=3)


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("clip", [False, True], ids=["free", "clipped"])
def test_ddim_is_diffusers_ddim(prediction_type, spacing, clip):
    """8 divides 1000. For other counts, and with linspace, diffusers steps to t - 1000 // steps, not to the next t."""
    theirs = diffusers.DDIMScheduler(
        1000, prediction_type=prediction_type, timestep_spacing=spacing, clip_sample=clip, set_alpha_to_one=True
    )
    theirs.set_timesteps(8)
    x, network = start(), Wavy()
    for t in theirs.timesteps:
        output = network(x, t.expand(len(x)))
        x = theirs.step(output, int(t), x, eta=0.0, use_clipped_model_output=clip).prev_sample
    ours = ddim(
        network, schedules.linear(1000), shape=SHAPE, count=4, steps=8, seed=3, prediction_type=prediction_type,
        spacing=spacing, clip=(-1, 1) if clip else None,
    )  # fmt: skip
    # diffusers takes betas, products and roots in float32, we in float64: its tables differ by up to 1e-5 relative.
    torch.testing.assert_close(ours, x, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("steps", [2, 7, 10, 63, 1000])
def test_the_timesteps_are_those_of_diffusers(spacing, steps):
    theirs = diffusers.DDIMScheduler(1000, timestep_spacing=spacing)
    theirs.set_timesteps(steps)
    ours = [level.timestep for level in sampling.levels(schedules.linear(1000), steps, spacing)[:-1]]
    assert ours == theirs.timesteps.tolist()


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_is_diffusers_ddpm_given_the_same_noise(variance):
    theirs = diffusers.DDPMScheduler(
        1000, variance_type=f"fixed_{variance}", clip_sample=False, timestep_spacing="leading"
    )
    theirs.set_timesteps(10)
    network, x, ids = Wavy(), start(), torch.arange(4)
    for number, t in enumerate(theirs.timesteps):
        mean_only = diffusers.DDPMScheduler(1000, clip_sample=False, timestep_spacing="leading")
        mean_only.set_timesteps(10)
        mean_only._get_variance = lambda *args, **kwargs: torch.tensor(0.0)
        mean = mean_only.step(network(x, t.expand(4)), int(t), x, generator=torch.Generator()).prev_sample
        spread = float(theirs._get_variance(int(t))) ** 0.5 if t > 0 else 0.0
        x = mean + spread * sampling.fresh_noise(ids, SHAPE, 3, number + 1)
    ours = ddpm(
        network, schedules.linear(1000), shape=SHAPE, count=4, steps=10, seed=3, variance=variance, spacing="leading"
    )
    torch.testing.assert_close(ours, x, rtol=2e-4, atol=2e-4)


def test_ddim_with_eta_one_is_ddpm_with_the_small_variance():
    schedule = schedules.cosine(100)
    a = ddim(Wavy(), schedule, shape=SHAPE, count=3, steps=20, eta=1.0)
    torch.testing.assert_close(a, ddpm(Wavy(), schedule, shape=SHAPE, count=3, steps=20))


def gaussian_denoiser(schedule, mean, std, prediction_type):
    """The exact network for data N(mean, std^2): E[x0 | x_t], turned into the prediction type, in float64."""

    def network(x, timesteps):
        t = int(timesteps[0])
        alpha, sigma = float(schedule.alpha[t]), float(schedule.sigma[t])
        gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
        x0 = mean + gain * (x.double() - alpha * mean)
        noise = (x.double() - alpha * x0) / sigma
        values = {"epsilon": noise, "sample": x0, "v_prediction": alpha * noise - sigma * x0}
        return values[prediction_type].float()

    return network


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize(("sampler", "steps", "tolerance"), [(ddim, 1000, 5e-3), (heun, 100, 2e-3)])
def test_the_flow_of_a_gaussian_is_its_closed_form(prediction_type, sampler, steps, tolerance):
    """The ODE scales x - alpha*mean with the marginal's standard deviation, so its end is known for each start."""
    schedule, mean, std = schedules.linear(1000), 0.7, 0.25
    network = gaussian_denoiser(schedule, mean, std, prediction_type)
    ids = torch.arange(500)
    first = sampling.initial_noise(ids, (4,), seed=1).double()
    alpha, sigma = schedule.alpha[-1], schedule.sigma[-1]
    expected = mean + std * (first - alpha * mean) / np.sqrt(alpha**2 * std**2 + sigma**2)
    result = sampler(
        network, schedule, shape=(4,), sample_ids=ids, steps=steps, seed=1, prediction_type=prediction_type
    )
    assert (result.double() - expected).abs().max() < tolerance * std * 4


def test_heun_is_of_second_order():
    schedule = schedules.linear(1000)
    network = gaussian_denoiser(schedule, 0.0, 0.5, "epsilon")
    first = sampling.initial_noise(torch.arange(100), (4,), seed=1).double()
    alpha, sigma = schedule.alpha[-1], schedule.sigma[-1]
    expected = 0.5 * first / np.sqrt(alpha**2 * 0.25 + sigma**2)

    def error(sampler, steps):
        result = sampler(network, schedule, shape=(4,), count=100, steps=steps, seed=1, spacing="karras").double()
        return (result - expected).abs().max()

    assert error(heun, 48) < error(heun, 12) / 4**2 * 1.5
    assert error(ddim, 48) > error(ddim, 12) / 4**2 * 1.5
    assert error(heun, 48) < error(ddim, 48) / 8


def test_ddpm_draws_the_distribution():
    schedule, mean, std = schedules.linear(1000), 0.7, 0.25
    network = gaussian_denoiser(schedule, mean, std, "epsilon")
    values = ddpm(network, schedule, shape=(4,), count=1000, batch_size=1000, variance="small", steps=250).double()
    assert abs(values.mean() - mean) < 4 * std / np.sqrt(4000)
    assert abs(values.std() / std - 1) < 0.06


@pytest.mark.parametrize("sampler", [ddim, ddpm, heun])
@pytest.mark.parametrize(
    ("schedule", "prediction_type"),
    [(schedules.flow(50), "flow_prediction"), (schedules.edm(50), "sample"), (schedules.edm(50), "edm")],
    ids=["flow", "ve", "edm"],
)
def test_other_families_end_on_a_constant_target(sampler, schedule, prediction_type):
    """A network that always knows x0 = 0.3 must end there from any start."""

    def network(x, times):
        level = next(
            found
            for found in sampling.levels(schedule, 50)
            if abs(found.time - float(times[0])) < 1e-4 + 1e-4 * abs(found.time)
        )
        a, s = level.alpha, level.sigma
        h = np.hypot(0.5 * a, s)
        state = x.double() * (h if prediction_type == "edm" else 1.0)
        noise = (state - a * 0.3) / s
        c_x, c_n = {"flow_prediction": (-1, 1), "sample": (1, 0), "edm": (s / (0.5 * h), -0.5 * a / h)}[prediction_type]
        return (c_x * 0.3 + c_n * noise).float()

    result = sampler(network, schedule, shape=(3,), count=5, steps=10, prediction_type=prediction_type)
    torch.testing.assert_close(result, torch.full((5, 3), 0.3), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sampler", [ddim, ddpm, heun])
@pytest.mark.parametrize("batch_size", [1, 3, 63])
def test_any_batching_gives_the_same_samples(sampler, batch_size):
    schedule = schedules.linear(50)
    options = {"eta": 0.5} if sampler is ddim else {}
    whole = sampler(Wavy(), schedule, shape=SHAPE, count=63, steps=6, seed=9, **options)
    parts = sampler(Wavy(), schedule, shape=SHAPE, count=63, steps=6, seed=9, batch_size=batch_size, **options)
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-5)
    one = sampler(Wavy(), schedule, shape=SHAPE, sample_ids=torch.tensor([17]), steps=6, seed=9, **options)
    torch.testing.assert_close(whole[17:18], one, rtol=0, atol=1e-5)


def test_the_start_is_the_address_noise_and_another_seed_is_other_noise():
    ids = torch.tensor([5, 2**40])
    expected = ops.standard_normal(ids, 30, ops.key(7, 0), stream="initial").reshape(2, *SHAPE)
    assert torch.equal(sampling.initial_noise(ids, SHAPE, 7), expected)
    assert not torch.equal(sampling.initial_noise(ids, SHAPE, 8), expected)
    assert not torch.equal(sampling.fresh_noise(ids, SHAPE, 7, 1), expected)


@pytest.mark.parametrize("sampler", [ddim, ddpm, heun])
def test_the_callback_sees_every_state_at_its_own_level(sampler):
    schedule, seen = schedules.linear(100), []
    final = sampler(Wavy(), schedule, shape=SHAPE, count=2, steps=4, seed=1, callback=seen.append, spacing="trailing")
    assert [step.timestep for step in seen] == [99, 74, 49, 24, None]
    assert [step.index for step in seen] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(
        [step.alpha_bar for step in seen], [*schedule.alphas_cumprod[[99, 74, 49, 24]], 1.0], rtol=1e-12
    )
    assert torch.equal(seen[0].state, sampling.initial_noise(torch.arange(2), SHAPE, 1))
    assert torch.equal(seen[-1].state, final)
    assert seen[-1].x0_hat is None
    output = Wavy()(seen[1].state, torch.tensor([74, 74]))
    x0 = (seen[1].state - schedule.sigma[74] * output) / schedule.alpha[74]
    torch.testing.assert_close(seen[1].x0_hat, x0, rtol=1e-5, atol=1e-5)


def test_guidance_extrapolates_between_the_two_outputs():
    network, schedule = Wavy(), schedules.linear(100)

    def guided(x, timesteps):
        without = network(x, timesteps)
        return without + 3.0 * (network(x, timesteps, torch.full((len(x),), 2)) - without)

    ours = ddim(network, schedule, shape=SHAPE, count=3, steps=5, labels=2, guidance=3.0)
    torch.testing.assert_close(ours, ddim(guided, schedule, shape=SHAPE, count=3, steps=5))


def test_the_network_is_in_evaluation_mode_while_sampling_and_back_in_training_mode_after():
    network = torch.nn.Sequential(torch.nn.Dropout(0.5))
    modes = []
    ddim(lambda x, t: network(x), schedules.linear(10), shape=(4,), count=1, steps=1)

    class Spy(torch.nn.Module):
        def forward(self, x, timesteps):
            modes.append(self.training)
            return x

    spy = Spy().train()
    ddim(spy, schedules.linear(10), shape=(4,), count=1, steps=2)
    assert modes == [False, False]
    assert spy.training


@pytest.mark.parametrize("spacing", sampling.SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 7, 63, 500, 1000])
def test_levels_fall_and_are_distinct(spacing, steps):
    found = [level.timestep for level in sampling.levels(schedules.linear(1000), steps, spacing)]
    assert len(found) == steps + 1
    assert found[-1] is None
    assert (np.diff(found[:-1]) < 0).all()
    assert min(found[:-1]) >= 0
    assert max(found[:-1]) <= 999


@pytest.mark.parametrize(
    ("schedule", "prediction_type"),
    [
        (schedules.linear(20), "epsilon"),
        (schedules.flow(20), "flow_prediction"),
        (schedules.edm(20), "edm"),
    ],
    ids=["vp", "flow", "edm"],
)
def test_the_network_is_told_the_same_time_and_given_the_same_input_as_in_training(schedule, prediction_type):
    objective = DenoisingObjective(schedule, prediction_type=prediction_type)
    ids = torch.arange(400)
    batch = objective.noise(torch.zeros(400, 1), ids, ops.key(0, 0))
    noise = ops.standard_normal(ids, 1, ops.key(0, 0))
    told = {}
    for level in sampling.levels(schedule, 20):
        if level.timestep is not None:
            told[level.timestep] = level
    seen = []
    for row, time, x, n in zip(batch.timesteps.tolist(), batch.time.tolist(), batch.x_t, noise, strict=True):
        level = told[row]
        assert time == pytest.approx(level.time, rel=1e-6, abs=1e-6)
        denoiser = sampling.Denoiser(lambda x, t: seen.append(x) or x, prediction_type)
        denoiser((level.sigma * n)[None], level)
        torch.testing.assert_close(seen.pop()[0], x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "schedule", [schedules.edm_continuous(), schedules.flow_continuous(), schedules.vp_continuous()]
)
def test_continuous_schedules_are_sampled_on_a_grid(schedule):
    assert torch.isfinite(
        ddim(lambda x, t: x * 0, schedule, shape=(2,), count=2, steps=10, prediction_type="sample")
    ).all()


@pytest.mark.parametrize("labels", [0.5, [0.5, 1.0], [float("nan"), 1.0]], ids=str)
def test_a_label_between_two_classes_is_refused(labels):
    with pytest.raises(InputError, match="labels: expected whole numbers"):
        ddim(torch.nn.Identity(), schedules.linear(10), shape=(2,), count=2, labels=labels, steps=2)


@pytest.mark.parametrize(
    ("clip", "least", "greatest"),
    [
        ((0.0, math.inf), 0.0, math.inf),
        ((-math.inf, 1), -math.inf, 1.0),
        (np.array([-0.5, 0.5], np.float32), -0.5, 0.5),
        (torch.tensor([-1, 1]), -1.0, 1.0),
    ],
    ids=["above", "below", "array", "tensor"],
)
def test_clean_samples_stay_within_either_bound(clip, least, greatest):
    draw = functools.partial(ddim, lambda x, t: x * 3, schedules.linear(10), shape=(50,), count=2, steps=1)
    clipped, free = draw(prediction_type="sample", clip=clip), draw(prediction_type="sample")
    torch.testing.assert_close(clipped, free.clamp(least, greatest))
    assert not torch.equal(clipped, free)


def test_bad_arguments_say_what_was_expected():
    schedule = schedules.linear(10)
    cases = [
        ({"count": 2, "steps": 11}, "steps: expected a whole number from 1 to 10"),
        ({"count": 2, "steps": 0}, "steps: expected a whole number from 1 to 10"),
        ({"count": 2, "steps": 2, "spacing": "odd"}, "spacing: expected one of trailing"),
        ({"count": 2, "steps": 2, "eta": 2.0}, "eta: expected a finite number from 0 to 1"),
        ({"steps": 2}, "count: expected how many samples"),
        ({"count": 2, "steps": 2, "labels": [1, 2, 3]}, "labels: expected one label, or 2 of them"),
        ({"count": 2, "steps": 2, "initial": torch.zeros(2, 4)}, r"initial: expected shape \[2, 3\]"),
        ({"count": 2, "steps": 2, "clip": (1.0, -1.0)}, "clip: expected"),
        ({"count": 2, "steps": 2, "prediction_type": "eps"}, "prediction_type"),
        ({"count": 2, "steps": 2, "batch_size": 0}, "batch_size: expected a whole number of at least 1"),
    ]
    for options, text in cases:
        with pytest.raises(InputError, match=text):
            ddim(lambda x, t: x, schedule, shape=(3,), **options)
    with pytest.raises(InputError, match="variance: expected one of small, large"):
        ddpm(lambda x, t: x, schedule, shape=(3,), count=1, variance="learned")


def test_no_samples_are_an_empty_tensor():
    assert ddim(lambda x, t: x, schedules.linear(10), shape=(3,), count=0, steps=2).shape == (0, 3)
