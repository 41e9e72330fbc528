import json

import diffusers
import numpy as np
import pytest
import torch
from mpmath import mp, mpf

from memfast import schedules
from memfast.foundation.errors import InputError
from memfast.schedules import Schedule, schedule_from_dict

DISCRETE = {
    "linear": schedules.linear, "scaled_linear": schedules.scaled_linear, "cosine": schedules.cosine,
    "edm": schedules.edm, "flow": schedules.flow, "flow_shift": lambda T: schedules.flow(T, shift=3.0),
}  # fmt: skip


@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize("T", [1, 2, 63, 1000])
def test_every_schedule_is_consistent(name, T):
    if name == "flow" and T == 1:
        T = 2
    schedule = DISCRETE[name](T)
    assert len(schedule) == T
    assert all(array.dtype == np.float64 for array in (schedule.alpha, schedule.sigma, schedule.snr, schedule.log_snr))
    with np.errstate(divide="ignore"):
        assert np.allclose(schedule.snr, schedule.alpha**2 / schedule.sigma**2, rtol=1e-12)
        assert np.allclose(schedule.log_snr, np.log(schedule.snr), rtol=1e-10, atol=1e-12)
    assert (np.diff(schedule.log_snr) < 0).all()
    total = {"vp": schedule.alpha**2 + schedule.sigma**2, "ve": schedule.alpha, "flow": schedule.alpha + schedule.sigma}
    assert np.allclose(total[schedule.family], 1, rtol=0, atol=4e-16)


@pytest.mark.parametrize("name", DISCRETE)
def test_dictionaries_come_back_to_the_last_bit(name):
    schedule = DISCRETE[name](37)
    assert schedule_from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule


def test_betas_and_continuous_schedules_come_back_too():
    betas = np.random.default_rng(0).uniform(1e-5, 0.1, 50)
    schedule = schedules.from_betas(betas)
    assert schedule_from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule
    for made in (schedules.edm_continuous(0.01, 50), schedules.flow_continuous(3.0), schedules.vp_continuous()):
        assert schedule_from_dict(json.loads(json.dumps(made.to_dict()))) == made


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("linear", "linear"), ("scaled_linear", "scaled_linear"), ("cosine", "squaredcos_cap_v2")],
)
def test_alphas_cumprod_equal_diffusers(ours, theirs):
    ends = {"beta_start": 0.00085, "beta_end": 0.012} if ours == "scaled_linear" else {}
    reference = diffusers.DDPMScheduler(1000, beta_schedule=theirs, **ends).alphas_cumprod.double().numpy()
    assert np.allclose(DISCRETE[ours](1000).alphas_cumprod, reference, rtol=2e-4, atol=1e-6)


def test_flow_levels_equal_diffusers():
    for shift in (1.0, 3.0):
        reference = diffusers.FlowMatchEulerDiscreteScheduler(1000, shift=shift).sigmas[:1000].flip(0).double().numpy()
        assert np.allclose(schedules.flow(1000, shift).sigma, reference, atol=1e-6)


def test_sigma_keeps_its_digits_near_zero():
    mp.dps = 40
    betas = np.linspace(1e-4, 0.02, 1000)
    product, worst = mpf(1), 0.0
    schedule = schedules.linear(1000)
    for t in range(1000):
        product *= 1 - mpf(float(betas[t]))
        for ours, exact in ((schedule.sigma[t], mp.sqrt(1 - product)), (schedule.alpha[t], mp.sqrt(product))):
            worst = max(worst, abs(float((mpf(float(ours)) - exact) / exact)))
    assert worst < 1e-13


def test_edm_levels_equal_the_papers_formula():
    T, i = 18, np.arange(18)
    paper = (80 ** (1 / 7) + i / (T - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert np.allclose(schedules.edm(T).sigma, paper[::-1], rtol=1e-12)


def test_zero_terminal_snr_is_allowed():
    schedule = schedules.from_betas([0.1, 0.5, 1.0])
    assert schedule.alpha[-1] == 0
    assert schedule.sigma[-1] == 1
    assert schedule.snr[-1] == 0
    assert np.isneginf(schedule.log_snr[-1])
    assert schedules.from_alphas_cumprod([0.9, 0.45, 0.0]).alpha[-1] == 0


@pytest.mark.parametrize(
    "continuous", [schedules.edm_continuous(), schedules.flow_continuous(3.0), schedules.vp_continuous()]
)
def test_continuous_levels_have_the_log_snr_asked_for(continuous):
    log_snr = torch.linspace(-12, 12, 101, dtype=torch.float64)
    alpha, sigma = continuous.at_log_snr(log_snr)
    assert torch.allclose(2 * (alpha.log() - sigma.log()), log_snr, atol=1e-9)
    time = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    alpha, sigma = continuous.at_time(time)
    assert bool(((sigma / alpha).diff() > 0).all())
    total = {"vp": alpha**2 + sigma**2, "ve": alpha, "flow": alpha + sigma}[continuous.family]
    assert torch.allclose(total, torch.ones_like(total))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: schedules.linear(0), "T: expected the number of timesteps, 1 or more, received 0"),
        (lambda: schedules.linear(10, 0.02, 0.01), "beta_start, beta_end: expected 0 < beta_start <= beta_end < 1"),
        (lambda: schedules.from_betas([0.1, 1.5]), "received 1.5 at row 1"),
        (lambda: schedules.from_betas([0.1, float("nan"), 0.1]), "received nan at row 1"),
        (lambda: schedules.from_betas([]), "a vector of at least one beta"),
        (lambda: schedules.from_alphas_cumprod([0.5, 0.6]), "noise that grows with t"),
        (lambda: schedules.edm(10, 1.0, 0.5), "sigma_max: expected a finite number above 1, received 0.5"),
        (lambda: schedules.flow(10, shift=-1), "shift: expected a finite number above 0"),
        (lambda: schedule_from_dict({"name": "quadratic"}), "schedule: expected one of linear"),
        (lambda: schedule_from_dict({"name": "linear", "steps": 3}), "schedule linear: expected its own arguments"),
        (lambda: schedule_from_dict({"name": "liner"}), "Did you mean 'linear'?"),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InputError) as error:
        make()
    assert text in str(error.value)


def test_the_old_name_still_reads_a_schedule_and_warns():
    with pytest.warns(DeprecationWarning, match="use memfast.schedules.schedule_from_dict"):
        assert Schedule.from_dict({"name": "linear", "T": 7}) == schedules.linear(7)
    with pytest.warns(DeprecationWarning, match="deprecated"), pytest.raises(InputError, match="a schedule of T rows"):
        Schedule.from_dict({"name": "edm_continuous"})
