"""The objective against diffusers and against the plain formulas, in every dtype, eager and compiled."""

import json

import diffusers
import numpy as np
import pytest
import torch

from memfast import ops, schedules, timesteps
from memfast.foundation.errors import InputError
from memfast.objective import Ambient, DenoisingObjective
from memfast.objective.weights import Importance

TYPES = ("epsilon", "sample", "v_prediction", "flow_prediction", "edm")


def _data(B=64, shape=(3, 7, 9), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(B, *shape, generator=generator), torch.arange(B) * 7 + 3, ops.key(seed=3, step=5)


def _noise_of(batch, numel):
    return ops.standard_normal(batch.sample_ids, numel, batch.key).view_as(batch.x0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (schedules.linear(1000), diffusers.DDPMScheduler(1000)),
        (schedules.scaled_linear(1000), diffusers.DDPMScheduler(1000, 0.00085, 0.012, "scaled_linear")),
        (schedules.cosine(1000), diffusers.DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")),
    ],
    ids=["linear", "scaled_linear", "cosine"],
)
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_equal_to_diffusers(ours, theirs, prediction_type):
    x0, ids, key = _data(256)
    objective = DenoisingObjective(ours, prediction_type=prediction_type)
    batch = objective.noise(x0, ids, key)
    noise = _noise_of(batch, x0[0].numel())
    assert torch.allclose(batch.x_t, theirs.add_noise(x0, noise, batch.timesteps), atol=3e-5)
    target = {"epsilon": noise, "sample": x0, "v_prediction": theirs.get_velocity(x0, noise, batch.timesteps)}
    prediction = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    expected = ((prediction - target[prediction_type]) ** 2).mean((1, 2, 3))
    assert torch.allclose(objective.loss(prediction, batch, "none"), expected, rtol=1e-4)
    assert torch.allclose(objective.loss(prediction, batch), expected.mean(), rtol=1e-4)


def test_flow_equals_diffusers():
    x0, ids, key = _data(128)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(1000, shift=3.0)
    objective = DenoisingObjective(schedules.flow(1000, shift=3.0), prediction_type="flow_prediction")
    batch = objective.noise(x0, ids, key)
    noise = _noise_of(batch, x0[0].numel())
    times = scheduler.timesteps.flip(0)[batch.timesteps]
    assert torch.allclose(batch.time, times, rtol=1e-5)
    assert torch.allclose(batch.x_t, scheduler.scale_noise(x0, times, noise), atol=1e-5)
    assert objective.loss(noise - x0, batch).item() < 1e-12


@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("weight", ["min_snr", "edm", "p2"])
@pytest.mark.parametrize("make", [schedules.linear, schedules.edm, schedules.flow], ids=["linear", "edm", "flow"])
def test_loss_and_gradient_equal_the_plain_formula(prediction_type, weight, make):
    """From the network's output to x0, compare there, weigh there: the long way, by autograd, in float64."""
    schedule = make(1000)
    x0, ids, key = _data(33, (1, 63))
    objective = DenoisingObjective(schedule, timesteps.Custom(np.arange(1000) < 990), prediction_type, weight)
    batch = objective.noise(x0, ids, key)
    prediction = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2)).requires_grad_()
    loss = objective.loss(prediction, batch)
    (gradient,) = torch.autograd.grad(loss, prediction)

    alpha, sigma, snr = (
        torch.tensor(array)[batch.timesteps].view(-1, 1, 1) for array in (schedule.alpha, schedule.sigma, schedule.snr)
    )
    plain = prediction.detach().double().requires_grad_()
    x_t = alpha * x0 + sigma * _noise_of(batch, 63).double()
    h = torch.hypot(0.5 * alpha, sigma)
    x0_hat = {
        "epsilon": (x_t - sigma * plain) / alpha,
        "sample": plain,
        "v_prediction": (alpha * x_t - sigma * plain) / (alpha**2 + sigma**2),
        "flow_prediction": (x_t - sigma * plain) / (alpha + sigma),
        "edm": (0.25 * alpha * x_t / h**2) + 0.5 * sigma / h * plain,
    }[prediction_type]
    weights = {"min_snr": snr.clamp(max=5), "edm": snr + 4, "p2": snr / (1 + snr)}
    expected = (weights[weight] * (x0_hat - x0) ** 2).mean()
    (expected_gradient,) = torch.autograd.grad(expected, plain)
    assert loss.item() == pytest.approx(expected.item(), rel=2e-5)
    scale = expected_gradient.abs().amax((1, 2), keepdim=True)
    assert ((gradient - expected_gradient).abs() / scale).max() < 2e-4
    x_in = x_t / h if prediction_type == "edm" else x_t
    assert torch.allclose(batch.x_t.double(), x_in, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("prediction_type", TYPES)
def test_low_precision_rounds_once(dtype, prediction_type):
    x0, ids, key = _data(64, (500,))
    x0 = x0.to(dtype)
    objective = DenoisingObjective(schedules.linear(1000), prediction_type=prediction_type)
    low, full = objective.noise(x0, ids, key), objective.noise(x0.float(), ids, key)
    assert low.x_t.dtype == dtype
    assert torch.equal(low.timesteps, full.timesteps)
    assert torch.equal(low.x_t, full.x_t.to(dtype))
    prediction = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(objective.loss(prediction, low), objective.loss(prediction, full), rtol=1e-5)


def test_bf16_noise_levels_do_not_drift():
    """diffusers' add_noise casts alpha^2 to bf16 first: ten timesteps get no noise at all. Ours get theirs."""
    x0 = torch.zeros(200, 4096, dtype=torch.bfloat16)
    theirs = diffusers.DDPMScheduler(1000).add_noise(x0[:1], torch.ones_like(x0[:1]), torch.tensor([0]))
    assert theirs.float().abs().max() == 0
    schedule = schedules.linear(1000)
    objective = DenoisingObjective(schedule, timesteps.Custom(np.arange(1000) < 10))
    batch = objective.noise(x0, torch.arange(200), ops.key(0, 1))
    for t in range(10):
        spread = batch.x_t[batch.timesteps == t].float().std().item()
        assert spread == pytest.approx(schedule.sigma[t], rel=0.02)


@pytest.mark.parametrize(
    "setup", ["plain", "ambient", "stratified", "edm", "flow_continuous", "edm_continuous_ambient"]
)
def test_one_graph_and_the_same_numbers(setup):
    objective = {
        "plain": lambda: DenoisingObjective(schedules.linear(100), timesteps.ConfidenceInterval(60, 100)),
        "ambient": lambda: DenoisingObjective(schedules.linear(100), ambient=Ambient(timestep=40)),
        "stratified": lambda: DenoisingObjective(schedules.linear(100), stratified=True),
        "edm": lambda: DenoisingObjective(schedules.edm(100), timesteps.LogNormal(), "edm", "edm"),
        "flow_continuous": lambda: DenoisingObjective(
            schedules.flow_continuous(), timesteps.LogitNormal(), "flow_prediction"
        ),
        "edm_continuous_ambient": lambda: DenoisingObjective(
            schedules.edm_continuous(), timesteps.LogNormal(), "edm", "edm", Ambient(sigma=0.4), stratified=True
        ),
    }[setup]()
    x0, ids, key = _data(16, (1, 30))

    def step(w, x0, ids, key):
        batch = objective.noise(x0, ids, key, ids % 5)
        return objective.loss(w * batch.x_t, batch), batch.x_t, batch.time

    w = torch.full((), 0.3, requires_grad=True)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for key in (ops.key(3, 5), ops.key(3, 6)):
        loss, x_t, time = step(w, x0, ids, key)
        loss_c, x_t_c, time_c = compiled(w, x0, ids, key)
        assert torch.equal(x_t, x_t_c)
        assert torch.equal(time, time_c)
        assert torch.allclose(loss, loss_c, rtol=1e-6)
        assert torch.allclose(*(torch.autograd.grad(one, w)[0] for one in (loss, loss_c)), rtol=1e-5)


def test_continuous_edm_draws_the_paper_s_sigmas():
    from scipy import stats

    objective = DenoisingObjective(schedules.edm_continuous(), timesteps.LogNormal(), "edm", "edm")
    batch = objective.noise(torch.zeros(20000, 1), torch.arange(20000), ops.key(0, 1))
    log_sigma = 4 * batch.time.double().numpy()
    assert stats.kstest(log_sigma, stats.norm(-1.2, 1.2).cdf).pvalue > 1e-3
    assert len(np.unique(log_sigma)) > 19000
    k_p = batch.table[:, 3]
    assert torch.allclose(k_p, torch.ones_like(k_p), atol=1e-6)


@pytest.mark.parametrize(
    "density", [timesteps.LogitNormal(0.3, 1.1), timesteps.Uniform(), timesteps.Mode(), timesteps.Laplace()]
)
def test_continuous_flow_draws_its_density(density):
    from scipy import stats

    objective = DenoisingObjective(schedules.flow_continuous(), density, "flow_prediction", stratified=True)
    batch = objective.noise(torch.zeros(5000, 1), torch.arange(5000), ops.key(0, 1))
    s = batch.time.double().numpy() / 1000
    x = {"log_snr": 2 * np.log((1 - s) / s), "time": s, "timestep": 1000 * s + 0.5}[density.variable]
    # Stratified: the empirical distribution follows the density to within one part of B.
    assert stats.kstest(x, density.cdf).statistic < 1.5 / 5000 + 2e-6


def test_a_density_without_fresh_addresses_repeats_and_ids_separate():
    x0, ids, key = _data(8)
    objective = DenoisingObjective(schedules.linear(1000))
    one, two = objective.noise(x0, ids, key), objective.noise(x0.flip(0), ids.flip(0), key)
    assert torch.equal(one.x_t, two.x_t.flip(0))
    assert torch.equal(one.timesteps, two.timesteps.flip(0))
    assert not torch.equal(one.timesteps, objective.noise(x0, ids, ops.key(3, 6)).timesteps)


@pytest.mark.parametrize(
    "objective",
    [
        DenoisingObjective(schedules.linear(100)),
        DenoisingObjective(
            schedules.cosine(77), timesteps.ConfidenceInterval(30, 60), "v_prediction", Importance("min_snr"),
            Ambient(timestep=20, compensate=True), stratified=True,
        ),
        DenoisingObjective(schedules.edm_continuous(), timesteps.LogNormal(), "edm", "edm", sigma_data=0.4),
    ],
    ids=["plain", "everything", "continuous"],
)  # fmt: skip
def test_dictionaries_come_back_to_the_same_bits(objective):
    again = DenoisingObjective.from_dict(json.loads(json.dumps(objective.to_dict())))
    x0, ids, key = _data(32)
    a, b = objective.noise(x0, ids, key), again.noise(x0, ids, key)
    assert torch.equal(a.x_t, b.x_t)
    assert torch.equal(objective.loss(x0, a, "none"), again.loss(x0, b, "none"))
    assert repr(again) == repr(objective)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: DenoisingObjective(schedules.linear(10), prediction_type="eps"),
            "prediction_type: expected one of epsilon",
        ),
        (lambda: DenoisingObjective("linear"), "schedule: expected a schedule of memfast.schedules"),
        (lambda: DenoisingObjective(schedules.linear(10), timesteps="uniform"), "timesteps: expected a density"),
        (lambda: DenoisingObjective(schedules.linear(2), np.ones(2)), "timesteps: expected a density"),
        (lambda: DenoisingObjective(schedules.linear(10), ambient=0.1), "ambient: expected an Ambient target, its"),
        (lambda: DenoisingObjective(schedules.linear(10), stratified="no"), "stratified: expected True or False"),
        (
            lambda: DenoisingObjective(schedules.linear(10), timesteps.Custom([1.0])),
            "weights: expected 10 weights, received 1",
        ),
        (
            lambda: DenoisingObjective.from_dict({"schedule": {"name": "linear"}, "density": {}}),
            "objective: expected the entries",
        ),
        (lambda: DenoisingObjective(schedules.edm_continuous()).table, "table: expected a schedule of rows"),
        (
            lambda: DenoisingObjective(schedules.linear(10)).noise(torch.zeros(2, 3), torch.arange(3), ops.key()),
            "sample_ids",
        ),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InputError) as error:
        make()
    assert text in str(error.value)
