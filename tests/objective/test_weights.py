"""Known answers of every loss weight for every prediction type, and the rule that connects the types."""

import json

import numpy as np
import pytest
import torch
from diffusers.training_utils import compute_loss_weighting_for_sd3, compute_snr

from memfast import schedules
from memfast.foundation.errors import InputError
from memfast.objective import WEIGHTS, DenoisingObjective, weight_from_dict, weights
from memfast.objective.weights import P2, SD3, CustomWeight, Importance, MinSNR, SpeeDWeight
from memfast.schedules.predictions import x0_and_noise
from memfast.timesteps import ConfidenceInterval, LogNormal, importance_weights

TYPES = ("epsilon", "sample", "v_prediction", "flow_prediction")
LINEAR = schedules.linear(1000)
SNR = LINEAR.snr
# Weight on mean((prediction - target)^2), as published or as it follows from x0's error.
FLOW = (LINEAR.sigma / (LINEAR.alpha + LINEAR.sigma)) ** 2
ON_X0 = {
    "min_snr": np.minimum(SNR, 5),
    "p2": SNR / (1 + SNR),
    "edm": SNR + 4,
    "debiased": np.sqrt(SNR),
}
KNOWN = {
    ("min_snr", "epsilon"): np.minimum(SNR, 5) / SNR,
    ("min_snr", "v_prediction"): np.minimum(SNR, 5) / (SNR + 1),
    ("p2", "epsilon"): 1 / (1 + SNR),
    ("p2", "v_prediction"): SNR / (1 + SNR) ** 2,
    ("debiased", "epsilon"): 1 / np.sqrt(SNR),
    ("debiased", "v_prediction"): np.sqrt(SNR) / (SNR + 1),
    ("edm", "epsilon"): (SNR + 4) / SNR,
    ("edm", "v_prediction"): (SNR + 4) / (SNR + 1),
} | {(name, "sample"): weight for name, weight in ON_X0.items()} | {
    (name, "flow_prediction"): weight * FLOW for name, weight in ON_X0.items()
}  # fmt: skip


def _weight(weight, prediction_type, schedule=LINEAR, probabilities=None):
    alpha, sigma = torch.tensor(schedule.alpha), torch.tensor(schedule.sigma)
    return weight_from_dict(weight).on_prediction(alpha, sigma, prediction_type, 0.5, probabilities).numpy()


@pytest.mark.parametrize(("name", "prediction_type"), KNOWN)
def test_known_answers(name, prediction_type):
    assert np.allclose(_weight(name, prediction_type), KNOWN[name, prediction_type], rtol=1e-11)


@pytest.mark.parametrize("prediction_type", TYPES)
def test_none_is_one(prediction_type):
    assert (_weight("none", prediction_type) == 1).all()


@pytest.mark.parametrize("sigma_data", [0.5, 1.0, 0.17])
@pytest.mark.parametrize("given", ["edm", {"name": "edm"}, weights.EDM()], ids=["name", "table", "object"])
def test_edm_is_one_on_the_networks_output_for_data_of_any_deviation(sigma_data, given):
    """Karras et al. 2022, table 1: lambda(sigma) * c_out(sigma)^2 = 1."""
    schedule = schedules.edm(50)
    objective = DenoisingObjective(schedule, prediction_type="edm", loss_weight=given, sigma_data=sigma_data)
    np.testing.assert_allclose(objective.table[:, 3].double() ** 2, 1, rtol=1e-6)
    assert DenoisingObjective.from_dict(objective.to_dict()).loss_weight == weights.EDM(sigma_data)
    plain = DenoisingObjective(schedule, prediction_type="sample", loss_weight=given, sigma_data=sigma_data)
    sigma = schedule.sigma
    published = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    np.testing.assert_allclose(plain.table[:, 3].double() ** 2, published, rtol=1e-6)


def test_edm_keeps_a_deviation_of_its_own():
    objective = DenoisingObjective(schedules.edm(5), loss_weight={"name": "edm", "sigma_data": 0.5}, sigma_data=1.0)
    assert objective.loss_weight == weights.EDM(0.5)


def test_min_snr_equals_diffusers_training_script():
    import diffusers

    scheduler = diffusers.DDPMScheduler(1000)
    snr = compute_snr(scheduler, torch.arange(1000))
    base = torch.stack([snr, 5 * torch.ones_like(snr)], dim=1).min(dim=1)[0]
    assert np.allclose(_weight(MinSNR(5), "epsilon"), (base / snr).numpy(), rtol=2e-3)
    assert np.allclose(_weight(MinSNR(5), "v_prediction"), (base / (snr + 1)).numpy(), rtol=2e-3)


@pytest.mark.parametrize("scheme", ["cosmap", "sigma_sqrt"])
def test_sd3_equals_diffusers_on_its_flow(scheme):
    flow = schedules.flow(1000)
    published = compute_loss_weighting_for_sd3(scheme, sigmas=torch.tensor(flow.sigma)).numpy()
    assert np.allclose(_weight(SD3(scheme), "flow_prediction", flow), published, rtol=1e-6)
    # With precondition_outputs the script compares x0 = x_t - s * prediction with x0.
    in_sample_space = _weight(SD3(scheme, space="sample"), "flow_prediction", flow)
    assert np.allclose(in_sample_space, published * flow.sigma**2, rtol=1e-6)


def test_edm_weight_is_the_papers_and_one_on_the_preconditioned_output():
    edm = schedules.edm(100)
    paper = (edm.sigma**2 + 0.25) / (edm.sigma * 0.5) ** 2
    assert np.allclose(_weight("edm", "sample", edm), paper, rtol=1e-12)
    assert np.allclose(_weight("edm", "edm", edm), 1, rtol=1e-12)
    assert np.allclose(_weight("edm", "edm"), 1, rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in WEIGHTS if name not in ("none", "custom", "importance")])
@pytest.mark.parametrize("make", [schedules.linear, schedules.flow], ids=["vp", "flow"])
def test_every_type_gives_one_and_the_same_loss(name, make):
    """The same x0 predicted in different ways has the same weighted loss: elsewhere a bug that keeps coming back."""
    schedule = make(1000)
    torch.manual_seed(0)
    rows = torch.tensor([0, 3, 250, 600, 998])
    alpha, sigma = torch.tensor(schedule.alpha)[rows, None], torch.tensor(schedule.sigma)[rows, None]
    x0, noise, x0_guess = torch.randn(3, 5, 64, dtype=torch.float64)
    x_t = alpha * x0 + sigma * noise
    noise_guess = (x_t - alpha * x0_guess) / sigma
    losses = {}
    for kind in TYPES:
        prediction, target = (
            {"epsilon": n, "sample": x, "v_prediction": alpha * n - sigma * x, "flow_prediction": n - x}[kind]
            for x, n in ((x0_guess, noise_guess), (x0, noise))
        )
        weight = torch.tensor(_weight(name, kind, schedule))[rows]
        losses[kind] = weight * ((prediction - target) ** 2).mean(1)
        assert torch.allclose(x0_and_noise(prediction, x_t, alpha, sigma, kind)[0], x0_guess, atol=1e-6)
    if schedule.family == "flow":
        del losses["v_prediction"]  # its alpha^2 + sigma^2 is not 1: another multiple, tested below
    for loss in losses.values():
        assert torch.allclose(loss, losses["sample"], rtol=1e-9)


def test_v_prediction_off_the_vp_family():
    flow = schedules.flow(1000)
    expected = np.minimum(flow.snr, 5) * (flow.sigma / (flow.alpha**2 + flow.sigma**2)) ** 2
    assert np.allclose(_weight("min_snr", "v_prediction", flow), expected, rtol=1e-9)


def test_limits_at_zero_terminal_snr():
    zero = schedules.from_betas([0.1, 0.5, 1.0])
    assert _weight("min_snr", "epsilon", zero)[-1] == pytest.approx(1)
    assert _weight("min_snr", "v_prediction", zero)[-1] == pytest.approx(0)
    assert _weight("p2", "epsilon", zero)[-1] == pytest.approx(1)
    with pytest.raises(InputError, match="expected a finite table, received k_p = inf in row 2"):
        DenoisingObjective(zero, loss_weight="debiased")


def test_speed_is_the_authors_rule():
    change = np.gradient(1 - LINEAR.alphas_cumprod)
    early = change[:700]
    expected = np.ones(1000)
    expected[:700] = 0.4 + 0.2 * (early - early.min()) / (early.max() - early.min())
    assert np.allclose(_weight(SpeeDWeight(), "epsilon"), expected, atol=1e-9)
    assert expected[:700].min() == pytest.approx(0.4)


def test_importance_and_custom():
    p = ConfidenceInterval(600, 1000).probabilities(1000)
    ours = _weight(Importance("min_snr"), "v_prediction", probabilities=torch.tensor(p))
    assert np.allclose(ours, KNOWN["min_snr", "v_prediction"] * importance_weights(p), rtol=1e-10)
    values = np.linspace(0, 3, 1000)
    assert np.allclose(_weight(CustomWeight(values), "v_prediction"), values)
    assert np.allclose(_weight(CustomWeight(values, space="sample"), "epsilon"), values / SNR, rtol=1e-10)
    assert np.allclose(_weight(P2(0.5, 2), "epsilon"), (2 + SNR) ** -0.5)


def test_importance_gives_the_uniform_loss_in_expectation():
    late = ConfidenceInterval(600, 1000)
    weighted = DenoisingObjective(LINEAR, late, loss_weight="importance").table[:, 3].double() ** 2
    assert float(weighted @ torch.tensor(late.probabilities(1000))) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", WEIGHTS)
def test_dictionaries(name):
    arguments = {"custom": {"values": [1.0, 2.0]}, "importance": {"base": {"name": "p2", "gamma": 0.5}}}.get(name, {})
    weight = weight_from_dict({"name": name, **arguments})
    assert weight_from_dict(json.loads(json.dumps(weight.to_dict()))) == weight


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: weight_from_dict("snr"), "loss_weight: expected one of none, min_snr"),
        (lambda: weight_from_dict({"name": "min_snr", "g": 3}), "loss_weight min_snr: expected its own arguments"),
        (lambda: MinSNR(0), "gamma: expected a finite number above 0, received 0"),
        (
            lambda: CustomWeight([1.0, float("nan")]),
            "values: expected a vector of finite weights of 0 or more, received shape (2,), nan",
        ),
        (lambda: CustomWeight([1.0, -2.0]), "-2.0 among them"),
        (lambda: DenoisingObjective(LINEAR, loss_weight=CustomWeight([1.0])), "expected 1000 weights, received 1"),
        (lambda: weight_from_dict(None), "loss_weight: expected a name, a dictionary or an object"),
        (lambda: weight_from_dict(torch.ones(3)), "(CustomWeight takes numbers), received Tensor."),
        (lambda: CustomWeight("a"), "values: expected a vector of numbers, received 'a'"),
        (lambda: P2(gamma="1"), "gamma: expected a finite number, received '1'"),
        (lambda: SpeeDWeight(tau=700.5), "tau: expected a whole number of at least 2, received 700.5"),
        (lambda: SpeeDWeight(l=0.4), "l: expected a finite number from 0.5 to 1, received 0.4"),
        (lambda: SD3("mode"), "scheme: expected cosmap or sigma_sqrt"),
        (lambda: DenoisingObjective(schedules.linear(50), loss_weight="speed"), "tau: expected 2 to T=50"),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InputError) as error:
        make()
    assert text in str(error.value)


@pytest.mark.parametrize(
    "config", [{"name": ["p2"]}, {"name": "custom", "values": ["a"]}, {"name": "min_snr", "gamma": "x"}]
)
def test_a_dictionary_with_a_value_of_the_wrong_kind_is_an_input_error(config):
    with pytest.raises(InputError):
        weight_from_dict(config)
    if config["name"] == "custom":
        with pytest.raises(InputError, match="schedule from_betas: expected its own arguments"):
            DenoisingObjective({"name": "from_betas", "betas": ["a"]})


@pytest.mark.parametrize("weight", ["speed", "importance", {"name": "custom", "values": [1.0, 2.0]}])
def test_a_weight_of_timesteps_is_refused_where_there_are_none(weight):
    """A batch as long as the list of weights would otherwise be weighted by place."""
    with pytest.raises(InputError, match="loss_weight: expected a weight by noise level, on a continuous schedule"):
        DenoisingObjective(schedules.edm_continuous(), LogNormal(), "edm", weight)


@pytest.mark.parametrize(("old", "new"), [("Custom", "CustomWeight"), ("SpeeD", "SpeeDWeight")])
def test_old_names_warn_and_are_the_new_classes(old, new):
    from memfast.objective import weights

    with pytest.warns(DeprecationWarning, match=f"use memfast.objective.weights.{new}"):
        assert getattr(weights, old) is getattr(weights, new)


def test_importance_over_importance_divides_both_factors_out():
    p = np.array([0.5, 0.25, 0.25])
    weight = weight_from_dict({"name": "importance", "base": "importance"})
    np.testing.assert_allclose(weight.density_factor(p), (1 / (3 * p)) ** 2)
    assert weight_from_dict("min_snr").density_factor(p) is None


def test_a_weight_by_name_inside_a_weight_is_made_where_it_is_used():
    assert Importance("p2").to_dict() == {"name": "importance", "base": "p2"}
    assert weight_from_dict(Importance("p2")) == Importance(P2())
    with pytest.raises(InputError, match="importance: expected a base that is a loss weight, received 'p2'"):
        Importance("p2").on_prediction(*torch.ones(2, 1).double(), "epsilon", probabilities=torch.ones(1))
