"""Every density against scipy or its published formula; and what must hold for all."""

import json

import numpy as np
import pytest
import torch
from diffusers.training_utils import compute_loss_weighting_for_sd3
from scipy import stats

from memfast import schedules, timesteps
from memfast.foundation.errors import InputError
from memfast.timesteps import density_from_dict

T = 1000
EXAMPLES = {
    "uniform": timesteps.Uniform(),
    "confidence_interval": timesteps.ConfidenceInterval(600, 1000),
    "gaussian_mixture": timesteps.GaussianMixture((100, 450, 1020), (30, 60, 80), (1, 2, 3)),
    "student_t": timesteps.StudentT(700, 90, 2.5),
    "laplace": timesteps.Laplace(-0.5, 0.8),
    "beta": timesteps.Beta(1.5, 3.0),
    "logit_normal": timesteps.LogitNormal(0.5, 0.8),
    "mode": timesteps.Mode(1.29),
    "cosmap": timesteps.CosMap(),
    "log_normal": timesteps.LogNormal(),
    "speed": timesteps.SpeeD(),
    "timestep_bias": timesteps.TimestepBias("range", 3.0, begin=200, end=400),
    "custom": timesteps.Custom(np.random.default_rng(0).uniform(0, 1, T)),
    "mixture": timesteps.Mixture((timesteps.Uniform(), timesteps.Beta(2, 5)), (0.3, 0.7)),
    "plan": timesteps.DensitySchedule(((0, timesteps.Uniform()), (10, timesteps.CosMap())), "linear"),
    "loss_second_moment": timesteps.LossSecondMoment(),
}
# The same laws by scipy, over the axis of the density, before they are cut to it.
LAWS = {
    "student_t": stats.t(2.5, 700, 90),
    "laplace": stats.laplace(-0.5, 0.8),
    "beta": stats.beta(1.5, 3.0),
    "logit_normal": None,
    "log_normal": stats.lognorm(1.2, scale=np.exp(-1.2)),
}


def test_every_registered_density_is_tested_here():
    assert set(EXAMPLES) == set(timesteps.DENSITIES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_pmf_dictionary_and_summary(name):
    density, schedule = EXAMPLES[name], schedules.linear(T)
    p = density.probabilities(schedule)
    assert p.shape == (T,)
    assert p.dtype == np.float64
    assert (p >= 0).all()
    assert p.sum() == pytest.approx(1, abs=1e-12)
    again = density_from_dict(json.loads(json.dumps(density.to_dict())))
    assert np.array_equal(again.probabilities(schedule), p)
    assert "rarest" in density.describe(schedule)
    contribution = timesteps.learning_contribution(schedule, density)
    assert np.allclose(contribution, schedule.snr * p)


@pytest.mark.parametrize("name", EXAMPLES)
def test_cdf_quantile_and_pdf_fit_together(name):
    density = EXAMPLES[name]
    q = np.array([1e-6, 0.01, 0.3, 0.5, 0.77, 0.999])
    x = density.quantile(q, T)
    assert (np.diff(x) > 0).all()
    assert np.allclose(density.cdf(x, T), q, rtol=1e-9, atol=1e-12)
    step = 1e-5 * (x[-1] - x[0])
    inner = x[1:-1]
    numeric = (density.cdf(inner + step, T) - density.cdf(inner - step, T)) / (2 * step)
    assert np.allclose(density.pdf(inner, T), numeric, rtol=2e-4, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if EXAMPLES[name].variable in ("timestep", "time")])
def test_cells_hold_the_differences_of_the_cdf(name):
    density = EXAMPLES[name]
    edges = np.arange(T + 1) + 0.5 if density.variable == "timestep" else np.arange(T + 1) / T
    assert np.allclose(np.diff(density.cdf(edges, T)), density.probabilities(T), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", ["student_t", "laplace", "beta", "log_normal"])
def test_laws_equal_scipys(name):
    density, law = EXAMPLES[name], LAWS[name]
    q = np.array([1e-4, 0.1, 0.5, 0.9, 0.9999])
    if name == "student_t":
        low, high = law.cdf([0.5, T + 0.5])
        assert np.allclose(density.quantile(q, T), law.ppf(low + q * (high - low)), rtol=1e-9)
        assert np.allclose(density.pdf([3.0, 640.0], T), law.pdf([3.0, 640.0]) / (high - low))
        return
    x = law.ppf(q)
    assert np.allclose(density.quantile(q), x, rtol=1e-8)
    assert np.allclose(density.cdf(x), q, rtol=1e-10)
    assert np.allclose(density.pdf(x), law.pdf(x), rtol=1e-9)


def test_gaussian_mixture_equals_scipys_truncated_sum():
    density = EXAMPLES["gaussian_mixture"]
    edges = np.arange(T + 1) + 0.5
    total = sum(w / 6 * np.diff(stats.norm(m, s).cdf(edges)) for w, m, s in ((1, 100, 30), (2, 450, 60), (3, 1020, 80)))
    assert np.allclose(density.probabilities(T), total / total.sum(), rtol=1e-7, atol=1e-14)


def test_stable_diffusion_3_maps_are_the_published_ones():
    v = np.linspace(0.001, 0.999, 999)
    mode = 1 - v - 1.29 * (np.cos(np.pi * v / 2) ** 2 - 1 + v)
    assert np.allclose(np.sort(mode), timesteps.Mode(1.29).quantile(v), atol=1e-12)
    assert np.allclose(1 - 1 / (np.tan(np.pi * v / 2) + 1), timesteps.CosMap().quantile(v), atol=1e-12)
    logit_normal = 1 / (1 + np.exp(-(0.5 + 0.8 * stats.norm.ppf(v))))
    assert np.allclose(logit_normal, timesteps.LogitNormal(0.5, 0.8).quantile(v), atol=1e-12)
    s = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    published = compute_loss_weighting_for_sd3("cosmap", sigmas=s).numpy()
    assert np.allclose(timesteps.CosMap().pdf(s.numpy()), published, rtol=1e-12)


def test_laplace_is_the_published_map():
    t = np.linspace(0.001, 0.999, 499)
    published = 0.0 - 0.5 * np.sign(0.5 - t) * np.log(1 - 2 * np.abs(t - 0.5))
    assert np.allclose(np.sort(published), timesteps.Laplace().quantile(t), atol=1e-12)


def test_bands_are_the_published_ones():
    speed = timesteps.SpeeD(700, 5).probabilities(T)
    assert speed[0] / speed[-1] == pytest.approx(5)
    assert (speed[:700] == speed[0]).all()
    assert (speed[700:] == speed[-1]).all()


def test_speed_with_its_mirror_is_the_mean_of_a_draw_and_its_reflection():
    mirror = int(np.argmax(np.gradient(schedules.linear(T).sigma) < 1e-4)) + 1
    assert mirror == 642
    draws = np.random.default_rng(0).choice(T, size=400_000, p=timesteps.SpeeD(700, 5).probabilities(T))
    partners = np.where(draws < mirror, mirror - draws, draws - mirror)
    drawn = np.bincount(np.concatenate([draws, partners]), minlength=T).reshape(-1, 50).sum(axis=1) / 800_000
    expected = timesteps.SpeeD(700, 5, mirror=mirror).probabilities(T).reshape(-1, 50).sum(axis=1)
    np.testing.assert_allclose(drawn, expected, atol=5 * np.sqrt(0.05 / 400_000))
    with pytest.raises(InputError, match="mirror: expected below 500 timesteps, received 642"):
        timesteps.SpeeD(350, 5, mirror=642).probabilities(500)
    with pytest.raises(InputError, match="mirror: expected a whole number of at least 0"):
        timesteps.SpeeD(mirror=-1)
    for strategy, biased in (("later", slice(-250, None)), ("earlier", slice(0, 250)), ("range", slice(100, 300))):
        weights = np.ones(T)
        weights[biased] *= 3
        ours = timesteps.TimestepBias(strategy, 3.0, 0.25, 100, 300).probabilities(T)
        assert np.allclose(ours, weights / weights.sum())


@pytest.mark.parametrize("schedule", [schedules.linear(T), schedules.edm(T), schedules.flow(T)], ids=lambda s: s.name)
@pytest.mark.parametrize(("name", "axis"), [("laplace", "log_snr"), ("log_normal", "sigma")])
def test_noise_level_densities_follow_the_schedule(schedule, name, axis):
    density, p = EXAMPLES[name], EXAMPLES[name].probabilities(schedule)
    levels = schedule.log_snr if axis == "log_snr" else np.exp(-schedule.log_snr / 2)
    for q in (0.25, 0.5, 0.75):
        x = density.quantile(q)
        held = p[levels >= x].sum() if axis == "log_snr" else p[levels <= x].sum()
        assert held == pytest.approx(1 - q if axis == "log_snr" else q, abs=0.02)


def test_the_paper_s_slope_of_the_learning_contribution():
    schedule = schedules.linear(T)
    density = timesteps.ConfidenceInterval(500, 900, tails="renormalize")
    t, p = np.arange(1, T + 1), density.probabilities(T)
    paper = schedule.snr * (t - density.mu) / density.scale**2 * p
    assert np.allclose(timesteps.learning_contribution_slope(schedule, density), paper, rtol=2e-4, atol=1e-12)


@pytest.mark.parametrize(
    ("moved", "width"),
    [
        (lambda d: timesteps.GaussianMixture((300 + d, 600 + d), (40, 50)), 1.0),
        (lambda d: timesteps.StudentT(500 + d, 40, 6), 1.0),
        (lambda d: timesteps.ConfidenceInterval(450 + d, 550 + d), 1.0),
        (lambda d: timesteps.Laplace(0.3 + d, 0.8), 1e-4),
    ],
    ids=["gaussian_mixture", "student_t", "confidence_interval", "laplace"],
)
def test_slope_is_what_moving_the_density_does(moved, width):
    schedule = schedules.linear(T)
    numeric = (moved(width).probabilities(schedule) - moved(-width).probabilities(schedule)) / (2 * width)
    assert np.abs(moved(0).slope(schedule) - numeric).max() < 5e-3 * np.abs(numeric).max()


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_density_has_a_slope(name):
    assert np.isfinite(EXAMPLES[name].slope(schedules.linear(T))).all()


def test_plans_change_and_glide():
    first, second = timesteps.Uniform(), timesteps.CosMap()
    plan = timesteps.DensitySchedule(((0, first), (100, second)), "linear")
    expected = 0.75 * first.probabilities(T) + 0.25 * second.probabilities(T)
    assert np.allclose(plan.at(25).probabilities(T), expected)
    assert plan.at(0) == first
    assert plan.at(100) == plan.at(5000) == second
    piecewise = timesteps.DensitySchedule(((0, first), (100, second)))
    assert piecewise.at(99) == first
    assert piecewise.at(100) == second


def test_loss_second_moment_is_improved_diffusions_rule():
    density = timesteps.LossSecondMoment(history=10, uniform_share=0.001)
    rng = np.random.default_rng(0)
    fed = rng.uniform(0.1, 2, (5, 13))
    for column in range(9):
        density.update(5, np.arange(5), fed[:, column])
    assert np.allclose(density.probabilities(5), 0.2)
    for column in range(9, 13):
        density.update(5, np.arange(5), fed[:, column])
    weights = np.sqrt(np.mean(fed[:, -10:] ** 2, axis=1))
    weights /= weights.sum()
    assert np.allclose(density.probabilities(5), weights * (1 - 0.001) + 0.001 / 5)
    resumed = timesteps.LossSecondMoment()
    resumed.load_state_dict(density.state_dict())
    for one in (density, resumed):
        one.update(5, [3, 3], [7.0, 8.0])
    assert np.array_equal(resumed.probabilities(5), density.probabilities(5))


def test_plot(tmp_path):
    figure = timesteps.plot_densities({"late": EXAMPLES["confidence_interval"]}, schedules.linear(T))
    assert len(figure.axes) == 2
    assert np.allclose(figure.axes[0].lines[0].get_ydata(), EXAMPLES["confidence_interval"].probabilities(T) * T)
    figure.savefig(tmp_path / "densities.png")
    assert len(timesteps.plot_densities({"uniform": timesteps.Uniform()}, 100).axes) == 1


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: timesteps.Custom([0.0, 0.0]), "weights: expected some mass on the timesteps, received none at all"),
        (
            lambda: timesteps.Custom([1.0, float("nan")]),
            "weights: expected finite weights of 0 or more, received nan at",
        ),
        (lambda: timesteps.Custom([1.0, -1.0]), "received -1.0 at index 1"),
        (lambda: timesteps.Custom([1.0, 1.0]).probabilities(3), "weights: expected 3 weights, received 2"),
        (lambda: timesteps.GaussianMixture((1, 2), (1,)), "one of each per component"),
        (lambda: timesteps.GaussianMixture((1,), (0,)), "scales: expected a finite number above 0, received 0"),
        (lambda: timesteps.GaussianMixture((-9e6,), (1,)).probabilities(T), "some mass on the timesteps"),
        (lambda: timesteps.Laplace().probabilities(T), "a schedule, for a density over log_snr"),
        (lambda: timesteps.Mode(3.0), "scale: expected a finite number from -1 to 1.75"),
        (lambda: timesteps.TimestepBias("middle"), "strategy: expected one of earlier, later, range"),
        (lambda: timesteps.TimestepBias("range", begin=5, end=2000).probabilities(T), "0 <= begin < end <= 1000"),
        (lambda: timesteps.Mixture((), ()), "one share for each component"),
        (lambda: timesteps.DensitySchedule(((5, timesteps.Uniform()),)), "steps that rise from 0, received [5]"),
        (lambda: timesteps.Mixture((timesteps.Uniform(), "x"), (1, 1)), "components: expected densities"),
        (lambda: timesteps.Mixture(timesteps.Uniform(), (1,)), "components: expected a list of densities"),
        (lambda: timesteps.DensitySchedule((0, timesteps.Uniform())), "stages: expected (first step, density) pairs"),
        (lambda: timesteps.DensitySchedule([(0, timesteps.Uniform)]), "stages: expected densities of"),
        (lambda: timesteps.GaussianMixture(100, 30), "means: expected a vector of numbers, received 100"),
        (lambda: timesteps.Custom("abc"), "weights: expected a vector of numbers, received 'abc'"),
        (lambda: timesteps.LossSecondMoment().update(3, [0], [float("inf")]), "losses: expected finite losses"),
        (
            lambda: timesteps.LossSecondMoment(4).load_state_dict({"losses": np.zeros((3, 2)), "counts": np.zeros(3)}),
            "state",
        ),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InputError) as error:
        make()
    assert text in str(error.value)


@pytest.mark.parametrize(
    "config",
    [
        {"name": "custom", "weights": ["a"]},
        {"name": ["uniform"]},
        {"name": "plan", "stages": [[0]]},
        {"name": "speed", "mirror": 1.5},
        {"name": "timestep_bias", "strategy": "range", "begin": 0.5, "end": 3},
        {"name": "loss_second_moment", "history": 0.5},
        {"name": "plan", "stages": [[0, {"name": "uniform"}]], "interpolaton": "linear"},
        {"name": "mixture", "components": [{"name": "uniform"}], "shares": [1], "share": [1]},
    ],
    ids=["text", "name", "stages", "mirror", "range", "history", "plan-misspelt", "mixture-misspelt"],
)
def test_a_configuration_with_a_value_of_the_wrong_kind_is_an_input_error(config):
    with pytest.raises(InputError):
        density_from_dict(config)


def test_the_old_name_of_a_density_schedule_warns_and_its_configurations_stay():
    with pytest.warns(DeprecationWarning, match="use memfast.timesteps.DensitySchedule"):
        assert timesteps.Plan is timesteps.DensitySchedule
    config = {"stages": [[0, "uniform"], [3, {"name": "cosmap"}]], "interpolation": "linear"}
    made = [density_from_dict({"name": name, **config}) for name in ("plan", "density_schedule")]
    assert made[0] == made[1]
    assert made[0].to_dict()["name"] == "plan"
