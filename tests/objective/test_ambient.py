"""Ambient targets: the identity by Monte Carlo, the rows by the formulas, the minimiser by the closed form."""

import math

import numpy as np
import pytest
import torch

from memfast import ops, schedules, timesteps
from memfast.foundation.errors import InputError
from memfast.objective import Ambient, DenoisingObjective, denoised_data
from memfast.schedules.predictions import input_scale, x0_and_noise

TYPES = ("epsilon", "sample", "v_prediction", "flow_prediction", "edm")
FAMILIES = {"vp": schedules.linear(1000), "ve": schedules.edm(1000), "flow": schedules.flow(1000)}
LEVELS = {"vp": (0.6, 0.8, 0.9), "ve": (1.0, 0.5, 1.3), "flow": (0.7, 0.3, 0.55)}  # alpha_n, sigma_n, sigma_t


def _alpha_t(family, sigma_t):
    return {"vp": math.sqrt(abs(1 - sigma_t**2)), "ve": 1.0, "flow": 1 - sigma_t}[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_identity_by_monte_carlo(family):
    """Data of two points. E[x_n | x_t] near one x_t, by drawing; and from E[x0 | x_t], by the identity."""
    alpha_n, sigma_n, sigma_t = LEVELS[family]
    alpha_t = _alpha_t(family, sigma_t)
    rng = np.random.default_rng(0)
    x0 = rng.choice([-1.0, 0.7], 4_000_000)
    x_n = alpha_n * x0 + sigma_n * rng.standard_normal(x0.size)
    r = alpha_t / alpha_n
    x_t = r * x_n + math.sqrt(sigma_t**2 - (r * sigma_n) ** 2) * rng.standard_normal(x0.size)
    near = np.abs(x_t - 0.2) < 0.02
    drawn, spread = x_n[near].mean(), x_n[near].std() / math.sqrt(near.sum())
    weights = np.exp(-((0.2 - alpha_t * np.array([-1.0, 0.7])) ** 2) / (2 * sigma_t**2))
    posterior = float(weights @ [-1.0, 0.7] / weights.sum())
    point = (torch.tensor(posterior), torch.tensor(0.2))
    data, level = {"alpha_data": alpha_n, "sigma_data": sigma_n}, {"alpha_t": alpha_t, "sigma_t": sigma_t}
    said = denoised_data(*point, **data, **level).item()
    assert abs(said - drawn) < 4 * spread + 1e-3
    # The trap of swapped levels is an error, not a wrong number.
    with pytest.raises(InputError, match="sigma_data, sigma_t: expected a level of x_t at or above the data's"):
        denoised_data(*point, alpha_data=alpha_t, sigma_data=sigma_t, alpha_t=alpha_n, sigma_t=sigma_n)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("compensate", [False, True])
@pytest.mark.parametrize("weight", ["none", "edm", "min_snr"])
def test_batches_and_losses_equal_the_paper_step_by_step(family, prediction_type, compensate, weight):
    schedule, T = FAMILIES[family], 1000
    ambient = Ambient(timestep=500, compensate=compensate)
    density = timesteps.Custom(np.arange(T) < 960)
    objective = DenoisingObjective(schedule, density, prediction_type, weight, ambient)
    plain = DenoisingObjective(schedule, density, prediction_type, weight)
    B, D = 257, 20
    x0 = torch.randn(B, D, generator=torch.Generator().manual_seed(0))
    ids, fixed_ids, key = torch.arange(B) + 1000, torch.arange(B) % 11, ops.key(4, 9)
    batch = objective.noise(x0, ids, key, fixed_ids)
    prediction = torch.randn(B, D, generator=torch.Generator().manual_seed(1))
    losses = objective.loss(prediction, batch, "none").double()

    low = batch.timesteps < 500
    assert 0.3 < low.float().mean() < 0.7
    unchanged = plain.noise(x0, ids, key)
    assert torch.equal(batch.x_t[low], unchanged.x_t[low])
    assert torch.equal(objective.loss(prediction, batch, "none")[low], plain.loss(prediction, unchanged, "none")[low])

    n = ops.standard_normal(ids, D, key).double()
    xi = ops.standard_normal(fixed_ids, D, ops.key(4, 0), stream="fixed").double()
    alpha, sigma = (torch.tensor(a)[batch.timesteps].unsqueeze(1) for a in (schedule.alpha, schedule.sigma))
    alpha_n, sigma_n = float(schedule.alpha[500]), float(schedule.sigma[500])
    y = alpha_n * x0.double() + sigma_n * xi
    r = alpha / alpha_n
    x_t = r * y + (sigma**2 - (r * sigma_n) ** 2).clamp_min(0).sqrt() * n
    high = ~low
    assert torch.allclose(
        batch.x_t[high].double(), (input_scale(prediction_type, alpha, sigma) * x_t)[high], atol=2e-4, rtol=1e-4
    )
    x0_hat, _ = x0_and_noise(prediction.double(), x_t, alpha, sigma, prediction_type)
    q2 = sigma**2 - (r * sigma_n) ** 2
    h = (alpha_n * q2 * x0_hat + r * sigma_n**2 * x_t) / sigma**2
    k_plain = plain.table[batch.timesteps, 3].double()
    x0_error_per_prediction_error = _x0_per_prediction(prediction_type, alpha, sigma).abs().squeeze(1)
    on_x0 = (k_plain / x0_error_per_prediction_error) ** 2
    expected = on_x0 * ((h - y) ** 2).mean(1)
    if compensate:
        fade = alpha_n * q2 / sigma**2
        floor = alpha_n * (1 - 1.05**-2)
        expected = expected / (fade.clamp_min(floor) ** 2).squeeze(1)
    strong = high & (expected > 1e-4 * expected[high].mean())
    assert strong.sum() > 0.4 * B
    assert torch.allclose(losses[strong], expected[strong], rtol=5e-3)


def _x0_per_prediction(prediction_type, alpha, sigma):
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    x_t = zero
    at_one, _ = x0_and_noise(one, x_t, alpha, sigma, prediction_type)
    at_zero, _ = x0_and_noise(zero, x_t, alpha, sigma, prediction_type)
    return at_one - at_zero


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("compensate", [False, True])
def test_the_best_ambient_prediction_is_the_posterior_mean(family, compensate):
    """Of two data points with fresh fixed noise: the closed-form denoiser has the least loss; shifting it costs."""
    schedule, row = FAMILIES[family], 800
    objective = DenoisingObjective(
        schedule,
        timesteps.Custom(np.arange(1000) == row),
        "sample",
        ambient=Ambient(timestep=400, compensate=compensate),
    )
    B = 400_000
    points = torch.tensor([-1.0, 0.7])
    x0 = points[torch.arange(B) % 2].unsqueeze(1)
    batch = objective.noise(x0, torch.arange(B), ops.key(0, 1), torch.arange(B))
    alpha, sigma = float(schedule.alpha[row]), float(schedule.sigma[row])
    logits = -((batch.x_t.double() - alpha * points.double()) ** 2) / (2 * sigma**2)
    best = (logits.softmax(1) @ points.double().unsqueeze(1)).float()
    # The derivative of the loss with respect to a constant shift vanishes within its Monte Carlo error.
    shift = torch.zeros(1, 1, requires_grad=True)
    losses = objective.loss(best + shift * torch.ones_like(best), batch, "none")
    (slope,) = torch.autograd.grad(losses.mean(), shift)
    k_p = float(objective.table[row, 3])
    residual = losses.detach().sqrt()
    assert abs(slope.item()) < 5 * 2 * k_p * float(residual.std() + residual.mean()) / math.sqrt(B)
    worse = min(objective.loss(best + step, batch).item() for step in (-0.1, 0.1))
    assert worse > losses.mean().item() + 0.5 * (0.1 * k_p) ** 2


def test_fixed_noise_is_one_per_item_and_forever():
    row = timesteps.Custom(np.arange(100) == 99)
    objective = DenoisingObjective(schedules.edm(100), row, "sample", ambient=Ambient(timestep=99))
    x0 = torch.zeros(6, 33)
    first = objective.noise(x0, torch.arange(6), ops.key(1, 1), torch.tensor([4, 4, 5, 5, 6, 6])).x_t
    later = objective.noise(x0, torch.arange(6) + 60, ops.key(1, 77), torch.tensor([4, 5, 6, 4, 5, 6])).x_t
    # At the threshold itself there is no fresh noise left: the input is the noisy copy.
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[[0, 2, 4]], later[[0, 1, 2]])
    assert first.std().item() == pytest.approx(80, rel=0.15)


@pytest.mark.parametrize("continuous", [False, True])
def test_noise_before_augmentation(continuous):
    schedule = schedules.edm_continuous() if continuous else schedules.edm(1000)
    density = timesteps.LogNormal()
    objective = DenoisingObjective(schedule, density, "sample", "edm", Ambient(sigma=0.4))
    x0 = torch.randn(64, 1, 30, generator=torch.Generator().manual_seed(0))
    ids, key = torch.arange(64), ops.key(0, 3)
    after = objective.noise(x0, ids, key)
    same = objective.noise(x0, ids, key, noisy_x0=objective.noisy(x0, ids, key))
    assert torch.allclose(after.x_t, same.x_t, atol=1e-5, rtol=1e-5)
    prediction = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    losses, same_losses = (objective.loss(prediction, batch, "none") for batch in (after, same))
    assert torch.allclose(losses, same_losses, rtol=2e-4)
    flipped = objective.noise(x0.flip(-1), ids, key, noisy_x0=objective.noisy(x0, ids, key).flip(-1))
    assert not torch.allclose(flipped.x_t, objective.noise(x0.flip(-1), ids, key).x_t, atol=1e-3)


def test_the_share_of_the_ambient_branch_is_known():
    """Under EDM's log-normal: sigma_n 0.1: .821, 0.5: .336, 1.0: .159."""
    for sigma_n, share in ((0.1, 0.821), (0.2, 0.634), (0.5, 0.336), (1.0, 0.159)):
        objective = DenoisingObjective(
            schedules.edm_continuous(), timesteps.LogNormal(), "edm", "edm", Ambient(sigma=sigma_n), stratified=True
        )
        batch = objective.noise(torch.zeros(4000, 1), torch.arange(4000), ops.key())
        assert (batch.table[:, 1] > 0).float().mean().item() == pytest.approx(share, abs=2e-3)


def test_nothing_in_the_rows_is_large():
    for compensate in (False, True):
        for make in (schedules.linear, schedules.edm, schedules.flow):
            ambient = Ambient(timestep=500, compensate=compensate)
            table = DenoisingObjective(make(1000), None, "v_prediction", "none", ambient).table
            assert table[:, 3:].abs().max() < (60 if compensate else 4) * max(1.0, float(make(1000).sigma.max()))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Ambient(), "Ambient: expected sigma or timestep, one of them, received neither"),
        (lambda: Ambient(sigma=0.4, timestep=3), "received both"),
        (lambda: Ambient(sigma=-1.0), "sigma: expected a finite number above 0"),
        (lambda: Ambient(sigma=float("nan")), "sigma: expected a finite number above 0"),
        (lambda: Ambient(sigma=0.4, margin=0), "margin: expected a finite number above 0"),
        (lambda: Ambient(sigma=100.0).level(schedules.edm(10)), "Ambient sigma: expected a level within the schedule"),
        (
            lambda: Ambient(sigma=0.001).level(schedules.linear(10)),
            "Ambient sigma: expected a level within the schedule",
        ),
        (lambda: Ambient(timestep=10).level(schedules.linear(10)), "Ambient timestep: expected a row from 0 to 9"),
        (lambda: Ambient(timestep=3).level(schedules.edm_continuous()), "Ambient timestep: expected sigma instead"),
        (lambda: Ambient(timestep=9).level(schedules.flow(10)), "a level with some signal left"),
        (lambda: Ambient.from_dict({"sigma_n": 1}), "ambient: expected sigma, timestep, compensate, margin"),
        (
            lambda: DenoisingObjective(schedules.linear(10)).noisy(torch.zeros(1, 1), torch.arange(1), ops.key()),
            "noisy",
        ),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InputError) as error:
        make()
    assert text in str(error.value)


@pytest.mark.parametrize("timestep", [1.5, math.nan, "3", -1])
def test_a_threshold_that_is_no_row_is_refused(timestep):
    with pytest.raises(InputError, match="timestep: expected a row of the schedule, a whole number"):
        Ambient(timestep=timestep)
