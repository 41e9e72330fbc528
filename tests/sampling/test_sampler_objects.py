"""Samplers as objects: one request for all, the old functions beside them, stochastic Heun, and foreign networks."""

import inspect
import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

from memfast import models, sampling, schedules
from memfast.foundation.errors import InputError
from memfast.sampling import DDIM, DDPM, SAMPLERS, Heun, SamplingRequest, choose_sampler, ddim, ddpm, heun

SHAPE = (2, 5, 3)
SHARED = {
    "shape", "count", "sample_ids", "steps", "seed", "prediction_type", "sigma_data", "labels", "guidance", "clip",
    "spacing", "initial", "batch_size", "callback", "device",
}  # fmt: skip
FUNCTIONS = {
    "ddim": (ddim, DDIM(eta=0.3), {"eta": 0.3}, (50, "trailing")),
    "ddpm": (ddpm, DDPM(variance="large"), {"variance": "large"}, (None, "trailing")),
    "heun": (heun, Heun(), {}, (18, "karras")),
}


def wavy(x, timesteps, labels=None):
    shift = 0 if labels is None else labels.float().view(-1, *[1] * (x.ndim - 1))
    return torch.sin(2 * x + 3 * timesteps.float().view(-1, *[1] * (x.ndim - 1)) / 1000) * 0.8 + 0.2 * shift


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_function_is_the_object(name):
    function, sampler, own, _ = FUNCTIONS[name]
    options = {"shape": SHAPE, "count": 5, "steps": 6, "labels": 1, "guidance": 2.0, "seed": 3, "batch_size": 2}
    schedule = schedules.linear(1000)
    expected = function(wavy, schedule, **own, **options)
    assert torch.equal(sampler.sample(wavy, SamplingRequest(schedule=schedule, **options)), expected)
    assert choose_sampler(sampler.to_dict()) == sampler
    assert SAMPLERS[name] is type(sampler)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_functions_show_every_argument_and_refuse_others(name):
    function, sampler, _, (steps, spacing) = FUNCTIONS[name]
    parameters = inspect.signature(function).parameters
    assert list(parameters)[:2] == ["network", "schedule"]
    assert set(parameters) == SHARED | {"network", "schedule"} | (set(sampler.to_dict()) - {"name"})
    assert (parameters["steps"].default, parameters["spacing"].default) == (steps, spacing)
    assert parameters["shape"].default is inspect.Parameter.empty
    with pytest.raises(TypeError, match=rf"{name}\(\): missing a required.* argument: 'shape'"):
        function(wavy, schedules.linear(10), count=1)
    with pytest.raises(TypeError, match=rf"{name}\(\): got an unexpected keyword argument 'stepz'"):
        function(wavy, schedules.linear(10), shape=SHAPE, count=1, stepz=3)


def test_requests_and_samplers_cannot_be_changed():
    request = SamplingRequest(schedule=schedules.linear(10), shape=SHAPE, count=2)
    with pytest.raises(FrozenInstanceError):
        request.count = 3
    with pytest.raises(FrozenInstanceError):
        DDIM().eta = 1.0
    with pytest.raises(InputError, match="method: expected one of ddim, ddpm, heun, received 'eluer'"):
        choose_sampler("eluer")
    with pytest.raises(InputError, match=r"method ddim: expected .*eta"):
        choose_sampler({"name": "ddim", "churn": 1})
    with pytest.warns(DeprecationWarning, match=r"memfast\.sampling\.SAMPLERS"):
        assert sampling.METHODS["ddim"] is ddim


def stochastic_heun(network, schedule, count, steps, churn, seed):
    """Karras et al. 2022, algorithm 2, in y = x / alpha and s = sigma / alpha, on the rows of the schedule."""
    ids, ratios = torch.arange(count), schedule.sigma / schedule.alpha
    rows = [level.timestep for level in sampling.levels(schedule, steps, "karras")[:-1]]
    y = sampling.initial_noise(ids, SHAPE, seed) * max(1.0, schedule.sigma[rows[0]]) / schedule.alpha[rows[0]]

    def slope(y, row):
        return network(float(schedule.alpha[row]) * y, torch.full((count,), row))

    added = 0
    for number, row in enumerate(rows):
        wanted = ratios[row] * (1 + min(churn / steps, math.sqrt(2) - 1))
        higher = max(row, int(np.argmin(np.abs(np.log(ratios) - np.log(wanted)))))
        if higher > row:
            added += 1
            spread = math.sqrt(ratios[higher] ** 2 - ratios[row] ** 2)
            y = y + spread * sampling.fresh_noise(ids, SHAPE, seed, number + 1)
        d = slope(y, higher)
        if number + 1 == len(rows):
            return y - ratios[higher] * d, added
        following = rows[number + 1]
        euler = y + (ratios[following] - ratios[higher]) * d
        y = y + (ratios[following] - ratios[higher]) * 0.5 * (d + slope(euler, following))
    return None


@pytest.mark.parametrize("churn", [1.0, 4.0, 100.0])
def test_heun_with_churn_is_algorithm_2_by_hand(churn):
    schedule, steps = schedules.linear(1000), 9
    expected, added = stochastic_heun(wavy, schedule, 4, steps, churn, 5)
    assert added > steps // 2
    found = heun(wavy, schedule, shape=SHAPE, count=4, steps=steps, churn=churn, seed=5)
    torch.testing.assert_close(found, expected.float(), rtol=2e-3, atol=2e-3)
    assert not torch.allclose(found, heun(wavy, schedule, shape=SHAPE, count=4, steps=steps, seed=5), atol=1e-2)


def test_churn_keeps_the_distribution_of_gaussian_data():
    """The exact network of N(0.5, 0.7^2): with steps enough, any churn ends at that mean and deviation."""
    schedule, mean, deviation = schedules.linear(1000), 0.5, 0.7

    def exact(x, timesteps):
        alpha, sigma = (float(values[int(timesteps[0])]) for values in (schedule.alpha, schedule.sigma))
        gain = alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2)
        return ((x.double() - alpha * (mean + gain * (x.double() - alpha * mean))) / sigma).float()

    found = heun(exact, schedule, shape=(20,), count=1000, steps=150, churn=20.0, batch_size=1000)
    assert float(found.mean()) == pytest.approx(mean, abs=0.01)
    assert float(found.std()) == pytest.approx(deviation, rel=0.02)


def test_callbacks_see_the_level_at_which_the_network_was_asked():
    seen, asked = [], []

    def network(x, timesteps):
        asked.append(int(timesteps[0]))
        return wavy(x, timesteps)

    heun(network, schedules.linear(1000), shape=SHAPE, count=2, steps=5, churn=3.0, callback=seen.append)
    assert [step.timestep for step in seen[:-1]] == asked[::2]


@pytest.mark.parametrize("kind", ["mlp", "unet2d"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_networks_of_another_dtype_are_asked_in_theirs(kind, dtype):
    torch.manual_seed(1)
    shape = (1, 8, 8)
    size = {"width": 16, "blocks": 1} if kind == "mlp" else {"widths": (8, 8)}
    network = models.build({"kind": kind, "item_shape": shape, "num_classes": 2, **size}).eval()
    options = {"shape": shape, "count": 3, "steps": 4, "labels": [0, 1, 1], "guidance": 2.0}
    expected = ddim(network, schedules.linear(1000), **options)
    found = ddim(network.to(dtype), schedules.linear(1000), **options)
    assert found.dtype == torch.float32
    loose = 1e-4 if dtype == torch.float64 else 0.2 * float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=loose)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("variance", [False, True], ids=["plain", "learned variance"])
def test_a_diffusers_unet_is_a_network(dtype, variance):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=3, out_channels=6 if variance else 3, block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, layers_per_block=1,
    ).to(dtype)  # fmt: skip
    scheduler = diffusers.DDIMScheduler(1000, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing")
    scheduler.set_timesteps(8)
    x = sampling.initial_noise(torch.arange(2), (3, 8, 8)).to(dtype)
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(unet(x, t).sample[:, :3], int(t), x).prev_sample
    found = ddim(unet, schedules.linear(1000), shape=(3, 8, 8), count=2, steps=8)
    torch.testing.assert_close(found, x.float(), rtol=1e-3, atol=1e-3)


def test_where_there_is_no_signal_branches_differ_by_their_clean_estimates():
    schedule, labels = schedules.flow(100), torch.tensor([0, 2])
    steps = []
    ddim(
        wavy, schedule, shape=SHAPE, labels=labels, count=2, steps=3, guidance=3.0, prediction_type="flow_prediction",
        callback=steps.append,
    )  # fmt: skip
    level = sampling.Level(99, 1000.0, 0.0, 1.0)
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    found = sampling.branch_difference(wavy, level, labels, prediction_type="flow_prediction")(x)
    times = torch.full((2,), 1000.0)
    # Without signal the velocity is noise - x0 and the noise is x: velocities differ as minus the clean estimates do.
    torch.testing.assert_close(found, wavy(x, times, labels) - wavy(x, times))
    for step in steps[:-1]:
        torch.testing.assert_close(step.alpha * step.x0_conditional + step.sigma * step.conditional, step.state)
        torch.testing.assert_close(step.alpha * step.x0_unconditional + step.sigma * step.unconditional, step.state)
