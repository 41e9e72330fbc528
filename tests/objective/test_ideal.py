"""The ideal memorizer against extended precision, and the curves against known models."""

import json

import numpy as np
import pytest
import torch
from mpmath import mp, mpf

from memfast import sampling, schedules
from memfast.foundation.errors import InputError
from memfast.objective import DenoisingObjective, IdealModel, denoising_loss_curve, ideal_denoiser, ideal_gap
from memfast.schedules.predictions import PREDICTION_TYPES, input_scale, x0_and_noise


def _data(N=40, D=63, seed=0):
    return torch.rand(N, D, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _exact(x_t, data, alpha, sigma):
    """Weights in 50 digits."""
    mp.dps = 50
    squared = [
        sum((mpf(float(p)) - mpf(alpha) * mpf(float(q))) ** 2 for p, q in zip(x_t, row, strict=True)) for row in data
    ]
    exponents = [-d / (2 * mpf(sigma) ** 2) for d in squared]
    top = max(exponents)
    weights = [mp.exp(e - top) for e in exponents]
    total = sum(weights)
    return np.array([float(w / total) for w in weights]), float(top + mp.log(total))


@pytest.mark.parametrize("sigma", [0.002, 0.05, 1.0, 80.0])
@pytest.mark.parametrize("offset", [0.0, 300.0], ids=["centred", "far"])
def test_equal_to_fifty_digits_even_between_two_close_copies(sigma, offset):
    data = _data().double()
    data[7] = data[3] + 1e-4 * _data(1).double()[0]
    data = (data + offset).float()
    x_t = (data[3].double() + 0.3 * (data[7] - data[3]).double()).float().unsqueeze(0)
    weights, log_evidence = _exact(x_t[0], data, 1.0, sigma)
    ideal = ideal_denoiser(x_t, data, 1.0, sigma)
    tolerance = 1e-7 if offset == 0 else 0.011
    assert ideal.max_weight.item() == pytest.approx(weights.max(), rel=tolerance)
    assert ideal.nearest.item() == weights.argmax()
    assert ideal.log_evidence.item() == pytest.approx(log_evidence, abs=tolerance)
    assert np.allclose(ideal.x0[0].numpy(), weights @ data.double().numpy(), atol=1e-4 if offset else 1e-9)
    positive = weights[weights > 0]
    assert ideal.entropy.item() == pytest.approx(-(positive * np.log(positive)).sum(), abs=0.02 if offset else 1e-7)


def test_float32_would_be_off_where_this_is_not():
    data = _data(50, 3072)
    data[1] = data[0] + 1e-4
    x_t, sigma = data[:1] + 2e-5, 0.002
    plain = (data.square().sum(1) + x_t.square().sum(1) - 2 * x_t @ data.T)[0]
    wrong = -(plain[0] - plain[1]).item() / (2 * sigma**2)
    exact = [((x_t.double() - data[i].double()) ** 2).sum().item() for i in (0, 1)]
    right = -(exact[0] - exact[1]) / (2 * sigma**2)
    assert abs(wrong - right) > 1
    ours = ideal_denoiser(x_t, data, 1.0, sigma)
    assert ours.max_weight.item() == pytest.approx(1 / (1 + np.exp(-right)), rel=1e-6)


def test_the_second_look_is_taken_where_the_bound_is_too_wide():
    data = _data(30, 500) + 3e4
    x_t = data[:4] + 1e-3
    exact = ((x_t.double()[:, None] - data.double()) ** 2).sum(2) / (2 * 1e-3**2)
    weights = (-exact).softmax(1)
    for tolerance in (0.01, 1e9):
        ideal = ideal_denoiser(x_t, data, 1.0, 1e-3, tolerance=tolerance)
        assert torch.equal(ideal.nearest, weights.argmax(1))
        assert torch.allclose(ideal.max_weight, weights.amax(1), rtol=1e-9)


@pytest.mark.parametrize("block", [1, 7, 40, None])
def test_blocks_do_not_matter(block):
    data, x_t = _data(), torch.randn(5, 63, generator=torch.Generator().manual_seed(1))
    alpha, sigma = torch.tensor([1.0, 0.9, 0.5, 0.1, 0.0]), torch.tensor([0.05, 0.4, 0.8, 0.99, 1.0])
    logits = -((x_t.double()[:, None] - alpha.double()[:, None, None] * data.double()) ** 2).sum(2)
    weights = (logits / (2 * sigma.double() ** 2)[:, None]).softmax(1)
    ideal = ideal_denoiser(x_t, data, alpha, sigma, block=block)
    assert torch.allclose(ideal.x0, weights @ data.double(), atol=1e-10)
    assert torch.allclose(ideal.max_weight, weights.amax(1))
    assert torch.allclose(ideal.entropy, torch.special.entr(weights).sum(1), atol=1e-9)
    # At alpha = 0 all samples weigh alike, and the first is named.
    assert ideal.nearest[4] == 0
    streamed = ideal_denoiser(x_t, lambda: iter([data[:13].numpy(), data[13:]]), alpha, sigma)
    assert torch.allclose(streamed.x0, ideal.x0, atol=1e-10)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_as_a_model_it_predicts_its_own_x0(prediction_type):
    data, schedule = _data(20, 12).view(20, 3, 4), schedules.linear(100)
    model = IdealModel(data, schedule, prediction_type)
    timesteps = torch.tensor([2, 50, 98])
    alpha, sigma = (torch.tensor(values[timesteps]).view(-1, 1, 1) for values in (schedule.alpha, schedule.sigma))
    x_t = torch.randn(3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    output = model(x_t * input_scale(prediction_type, alpha, sigma), timesteps)
    read, _ = x0_and_noise(output, x_t, alpha, sigma, prediction_type)
    expected = ideal_denoiser(x_t, data, alpha.flatten(), sigma.flatten()).x0
    assert torch.allclose(read, expected, atol=1e-8)


@pytest.mark.parametrize(
    ("make", "prediction_type"),
    [(schedules.linear, "epsilon"), (schedules.edm, "edm"), (schedules.flow, "flow_prediction")],
)
def test_the_gap_of_the_memorizer_is_zero_and_of_the_mean_is_known(make, prediction_type):
    data = _data(16, 24)
    schedule = make(100)
    objective = DenoisingObjective(schedule, prediction_type=prediction_type)
    memorizer = IdealModel(data, schedule, prediction_type)
    rows = [10, 50, 90]
    curve = ideal_gap(memorizer, data, objective, levels=rows, batch=5)
    assert curve.timesteps == rows
    assert max(curve.gap) < 1e-7
    assert np.allclose(curve.model_loss, curve.ideal_loss, rtol=1e-3, atol=1e-9)
    assert curve.max_weight[0] > 0.99 > curve.max_weight[-1]
    json.dumps(curve.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("make", "prediction_type", "sampler"),
    [
        (lambda: schedules.linear(1000), "epsilon", "ddim"),
        (lambda: schedules.flow(1000), "flow_prediction", "ddim"),
        (lambda: schedules.edm(1000), "edm", "heun"),
        (schedules.edm_continuous, "edm", "heun"),
    ],
)
def test_sampling_the_memorizer_gives_training_samples_and_nothing_else(make, prediction_type, sampler):
    data, schedule = _data(12, 24).view(12, 1, 24), make()
    model = IdealModel(data, schedule, prediction_type)
    samples = getattr(sampling, sampler)(
        model, schedule, shape=(1, 24), count=40, steps=30, prediction_type=prediction_type, device="cpu"
    )
    distance, copied = (samples[:, None] - data).flatten(2).norm(dim=2).min(1)
    assert distance.max() < 0.05
    assert len(copied.unique()) > 6


def test_the_gap_of_a_known_wrong_model():
    data = _data(16, 24)
    objective = DenoisingObjective(schedules.edm(50), prediction_type="sample")
    curve = ideal_gap(lambda x_t, time: torch.zeros_like(x_t), data, objective, levels=[0])
    assert curve.gap[0] == pytest.approx(data.double().square().mean().item(), rel=1e-9)
    assert curve.gap_error[0] == pytest.approx(data.double().square().mean(1).std().item() / 4, rel=1e-6)


def test_loss_curves_separate_a_memorizer_from_an_honest_model():
    train, held_out = _data(32, 24, 0), _data(48, 24, 1)
    schedule = schedules.linear(100)
    objective = DenoisingObjective(schedule, prediction_type="sample")
    memorizer = IdealModel(train, schedule, "sample")
    curve = denoising_loss_curve(memorizer, train, held_out, objective, levels=[5, 40], batch=7)
    assert curve.train[0] < 1e-3
    assert curve.gap[0] > 0.2
    assert curve.samples == (32, 48)
    honest = denoising_loss_curve(lambda x_t, time: torch.zeros_like(x_t), train, held_out, objective, levels=4)
    assert honest.timesteps == [0, 33, 66, 99]
    assert abs(honest.gap[0]) < 4 * (honest.train_error[0] + honest.held_out_error[0])
    assert honest.train[2] == pytest.approx(train.double().square().mean().item(), rel=1e-9)


def test_continuous_levels_and_batches_give_the_same_noise():
    data = _data(16, 24)
    objective = DenoisingObjective(schedules.edm_continuous(), prediction_type="edm")
    told = []

    def predict(x_t, time):
        told.append(time[0].item())
        return torch.zeros_like(x_t)

    one, other = (ideal_gap(predict, data, objective, levels=[0.1, 2.0], batch=size) for size in (16, 3))
    assert one.timesteps is None
    assert one.sigma == pytest.approx([0.1, 2.0])
    assert told[0] == pytest.approx(np.log(0.1) / 4)
    assert np.allclose(one.gap, other.gap, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ideal_denoiser(torch.zeros(1, 3), torch.zeros(0, 3), 1.0, 1.0), "data: expected at least one sample"),
        (lambda: ideal_denoiser(torch.zeros(1, 3), torch.zeros(2, 4), 1.0, 1.0), "data: expected samples of shape [3]"),
        (lambda: ideal_denoiser(torch.zeros(1, 3), torch.zeros(2, 3), 1.0, 0.0), "sigma above 0"),
        (
            lambda: ideal_denoiser(torch.zeros(1, 3), torch.full((2, 3), float("nan")), 1.0, 1.0),
            "data: expected finite",
        ),
        (
            lambda: ideal_denoiser(torch.zeros(1, 3), np.zeros((2, 3), np.uint8), 1.0, 1.0),
            "received uint8. Scale images",
        ),
        (lambda: ideal_gap(None, torch.zeros(2, 3), DenoisingObjective(schedules.linear(10)), levels=[12]), "levels"),
        (
            lambda: ideal_gap(None, torch.zeros(0, 3), DenoisingObjective(schedules.linear(10))),
            "samples: expected at least",
        ),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InputError) as error:
        make()
    assert text in str(error.value)
