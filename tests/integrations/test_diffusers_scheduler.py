"""The objective made from a scheduler against what diffusers itself computes."""

import numpy as np
import pytest
import torch

from memfast import ops, schedules, timesteps
from memfast.foundation.errors import InputError
from memfast.integrations.diffusers import objective_from_scheduler

diffusers = pytest.importorskip("diffusers")
SCHEDULERS = {
    "ddpm-linear": lambda: diffusers.DDPMScheduler(1000),
    "ddpm-cosine-v": lambda: diffusers.DDPMScheduler(
        1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"
    ),
    "ddim-scaled-sample": lambda: diffusers.DDIMScheduler(
        1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="sample"
    ),
    "ddpm-sigmoid": lambda: diffusers.DDPMScheduler(500, beta_schedule="sigmoid"),
    "ddpm-zero-snr-v": lambda: diffusers.DDPMScheduler(
        1000, rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing"
    ),
    "pndm": lambda: diffusers.PNDMScheduler(1000),
    "trained": lambda: diffusers.DDPMScheduler(7, trained_betas=np.linspace(0.01, 0.5, 7)),
}


def batch_of(objective, count=600, dtype=torch.float32):
    x0 = torch.randn(count, 3, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    ids, key = torch.arange(count), ops.key(1, 2)
    noise = ops.standard_normal(ids, 15, key).reshape(count, 3, 5)
    return x0, noise, objective.noise(x0, ids, key)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_noised_samples_and_losses_are_those_of_diffusers(name):
    scheduler = SCHEDULERS[name]()
    objective = objective_from_scheduler(scheduler)
    x0, noise, batch = batch_of(objective)
    # diffusers takes the product of the betas in float32: a relative error of 1e-5 in alpha_bar, more near 0.
    tolerance = {"rtol": 2e-4, "atol": 2e-4}
    torch.testing.assert_close(batch.x_t, scheduler.add_noise(x0, noise, batch.timesteps), **tolerance)
    prediction = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    kind = scheduler.config.prediction_type
    target = {
        "epsilon": lambda: noise, "sample": lambda: x0,
        "v_prediction": lambda: scheduler.get_velocity(x0, noise, batch.timesteps),
    }[kind]()  # fmt: skip
    expected = (prediction - target).square().flatten(1).mean(1)
    torch.testing.assert_close(objective.loss(prediction, batch, reduction="none"), expected, rtol=1e-3, atol=1e-3)
    assert len(batch.timesteps.unique()) > min(7, 300) - 1


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_the_schedule_is_that_of_every_scheduler_with_betas(name):
    """Their add_noise wants set_timesteps first; the levels themselves are the same."""
    scheduler = getattr(diffusers, name)(1000)
    schedule = objective_from_scheduler(scheduler).schedule
    np.testing.assert_allclose(schedule.alphas_cumprod, scheduler.alphas_cumprod.double().numpy(), rtol=2e-4)


def test_snr_weights_are_those_of_diffusers():
    from diffusers.training_utils import compute_snr

    scheduler = diffusers.DDPMScheduler(1000)
    plain, weighted = (objective_from_scheduler(scheduler, loss_weight=w) for w in ("none", "min_snr"))
    x0, _, batch = batch_of(plain)
    prediction = torch.zeros_like(x0)
    ratio = weighted.loss(prediction, batch, "none") / plain.loss(prediction, batch, "none")
    snr = compute_snr(scheduler, batch.timesteps)
    torch.testing.assert_close(ratio, snr.clamp(max=5) / snr, rtol=2e-4, atol=1e-6)


def test_flow_matching_is_that_of_diffusers():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(1000, shift=3.0)
    objective = objective_from_scheduler(scheduler)
    assert objective.prediction_type == "flow_prediction"
    x0, noise, batch = batch_of(objective)
    # diffusers lists the levels from most to least noise.
    sigma = scheduler.sigmas[:1000].flip(0)[batch.timesteps].view(-1, 1, 1)
    torch.testing.assert_close(batch.x_t, (1 - sigma) * x0 + sigma * noise, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(batch.time, scheduler.timesteps.flip(0)[batch.timesteps], rtol=1e-4, atol=1e-3)
    target = noise - x0
    losses = objective.loss(torch.zeros_like(x0), batch, "none")
    torch.testing.assert_close(losses, target.square().flatten(1).mean(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["UniPCMultistepScheduler", "DPMSolverMultistepScheduler"])
def test_solvers_on_flow_sigmas_are_flow_matching_though_they_have_betas(name):
    scheduler = getattr(diffusers, name)(
        1000, use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction", final_sigmas_type="sigma_min"
    )
    objective = objective_from_scheduler(scheduler)
    assert objective.prediction_type == "flow_prediction"
    assert objective.schedule == schedules.flow(1000, shift=3.0)
    scheduler.set_timesteps(50)
    # Their levels, with the stated shift taken back, are evenly spaced in time.
    time = scheduler.sigmas[:-1].double() / (3 - 2 * scheduler.sigmas[:-1].double())
    np.testing.assert_allclose(np.diff(time.numpy()), np.diff(time.numpy()).mean(), rtol=1e-3)
    x0, noise, batch = batch_of(objective)
    sigma = torch.from_numpy(objective.schedule.sigma.copy())[batch.timesteps].view(-1, 1, 1).float()
    alpha_t, sigma_t = scheduler._sigma_to_alpha_sigma_t(sigma)
    torch.testing.assert_close(batch.x_t, alpha_t * x0 + sigma_t * noise, rtol=1e-5, atol=1e-5)


def test_a_scheduler_that_shifts_its_snr_is_followed():
    scheduler = diffusers.CogVideoXDDIMScheduler(1000, snr_shift_scale=3.0)
    objective = objective_from_scheduler(scheduler)
    x0, noise, batch = batch_of(objective)
    torch.testing.assert_close(
        batch.x_t, scheduler.add_noise(x0, noise, batch.timesteps), rtol=2e-4, atol=2e-4
    )  # fmt: skip
    plain = diffusers.DDIMScheduler(1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    ratio = objective_from_scheduler(plain).schedule.snr / objective.schedule.snr
    np.testing.assert_allclose(ratio, 3.0, rtol=2e-3)


def noise_level_error(x_t, x0, noise, sigma):
    """The noise level that x_t really has, by projection on the noise, against the wanted one."""
    flat = noise.double().flatten(1)
    alpha = (1 - sigma**2).sqrt()
    level = ((x_t.double() - alpha.view(-1, 1, 1) * x0.double()).flatten(1) * flat).sum(1) / flat.square().sum(1)
    return (level / sigma - 1).abs()


def test_diffusers_in_bfloat16_adds_no_noise_at_first_and_we_do():
    scheduler = diffusers.DDPMScheduler(1000)
    first = timesteps.ConfidenceInterval(low=1, high=12, tails="renormalize")
    objective = objective_from_scheduler(scheduler, timesteps=first)
    ids, key = torch.arange(500), ops.key(1, 2)
    # Multiples of 1/64: exact in bfloat16, so that x0 itself carries no rounding.
    x0 = torch.randint(-64, 64, (500, 8, 64), generator=torch.Generator().manual_seed(0)) / 64
    noise = ops.standard_normal(ids, 512, key).reshape(x0.shape)
    batch = objective.noise(x0.bfloat16(), ids, key)
    early = batch.timesteps < 10
    theirs = scheduler.add_noise(x0.bfloat16(), noise.bfloat16(), batch.timesteps)
    sigma = torch.from_numpy(objective.schedule.sigma.copy())[batch.timesteps]
    their_error, our_error = (noise_level_error(x_t, x0, noise, sigma) for x_t in (theirs, batch.x_t))
    assert early.sum() > 100
    assert (their_error[early] > 0.9).all()  # sigma is 0 there
    assert our_error.median() < 0.02
    in_float32 = objective.noise(x0, ids, key).x_t
    assert torch.equal(batch.x_t, in_float32.bfloat16())  # one rounding, at the end


def test_what_is_no_scheduler_is_refused():
    with pytest.raises(InputError, match="scheduler: expected a diffusers scheduler, received dict"):
        objective_from_scheduler({})
    with pytest.raises(InputError, match="scheduler: expected one with betas, or flow matching's, received IPNDM"):
        objective_from_scheduler(diffusers.IPNDMScheduler())
    with pytest.raises(InputError, match="received use_dynamic_shifting=True"):
        objective_from_scheduler(diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True))
