import pytest
import torch

from memfast import schedules
from memfast.foundation.errors import InputError
from memfast.schedules.predictions import PREDICTION_TYPES, input_scale, target, target_coefficients, x0_and_noise


def _levels(schedule, rows):
    return (torch.tensor(array[rows]).view(-1, 1) for array in (schedule.alpha, schedule.sigma))


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("make", [schedules.linear, schedules.edm, schedules.flow])
def test_reading_a_perfect_prediction_gives_back_x0_and_noise(prediction_type, make):
    torch.manual_seed(0)
    alpha, sigma = _levels(make(1000), [0, 300, 700, 990])
    x0, noise = torch.randn(4, 63, dtype=torch.float64), torch.randn(4, 63, dtype=torch.float64)
    perfect = target(prediction_type, x0, noise, alpha, sigma)
    read_x0, read_noise = x0_and_noise(perfect, alpha * x0 + sigma * noise, alpha, sigma, prediction_type)
    assert torch.allclose(read_x0, x0, atol=1e-7)
    assert torch.allclose(read_noise, noise, atol=1e-7)


def test_edm_coefficients_are_the_papers():
    sigma_data, sigma = 0.5, torch.tensor([0.002, 0.3, 5.0, 80.0], dtype=torch.float64)
    x0, noise = torch.randn(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    c_skip = sigma_data**2 / (sigma**2 + sigma_data**2)
    c_out = sigma * sigma_data / (sigma**2 + sigma_data**2).sqrt()
    c_in = 1 / (sigma**2 + sigma_data**2).sqrt()
    ours = target("edm", x0, noise, torch.ones_like(sigma), sigma, sigma_data)
    assert torch.allclose(ours, (x0 - c_skip * (x0 + sigma * noise)) / c_out, rtol=1e-9)
    assert torch.allclose(input_scale("edm", torch.ones_like(sigma), sigma, sigma_data), c_in)
    c_x, c_n = target_coefficients("edm", torch.ones_like(sigma), sigma, sigma_data)
    assert torch.allclose((sigma_data * c_x) ** 2 + c_n**2, torch.ones_like(sigma))


def test_flow_reads_at_pure_noise():
    x0, noise = torch.randn(3, 5), torch.randn(3, 5)
    read_x0, read_noise = x0_and_noise(noise - x0, noise, 0.0, 1.0, "flow_prediction")
    assert torch.allclose(read_x0, x0, atol=1e-6)
    assert torch.allclose(read_noise, noise)


def test_an_unknown_type_is_named():
    with pytest.raises(InputError, match="prediction_type: expected one of epsilon, sample"):
        target("score", torch.zeros(1), torch.zeros(1), torch.ones(1), torch.ones(1))
