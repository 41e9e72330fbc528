"""Weight averages against their definitions."""

import numpy as np
import pytest
import torch

from memfast.foundation.errors import InputError
from memfast.training import ConstantDecay, PowerFunction
from memfast.training.ema import Averages, profiles


def run(profile, steps):
    model = torch.nn.Linear(3, 2)
    averages = Averages(model, [profile])
    path = [torch.cat([p.detach().flatten() for p in model.parameters()]).double()]
    for step in range(1, steps + 1):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        averages.update(step)
        path.append(torch.cat([p.detach().flatten() for p in model.parameters()]).double())
    final = torch.cat([tensor.flatten() for tensor in averages.state(profile.name).values()])
    return path, final.double()


def test_constant_decay_is_the_geometric_sum():
    path, final = run(ConstantDecay(0.9, ramp=False), 30)
    expected = path[0] * 0.9**30 + sum(0.1 * 0.9 ** (30 - step) * path[step] for step in range(1, 31))
    torch.testing.assert_close(final, expected, rtol=1e-5, atol=1e-5)


def test_the_ramp_forgets_the_first_weights():
    path, final = run(ConstantDecay(0.999), 40)
    weights = [1.0]
    for step in range(1, 41):
        decay = min(0.999, (1 + step) / (10 + step))
        weights = [w * decay for w in weights] + [1 - decay]
    assert weights[0] < 1e-6
    torch.testing.assert_close(final, sum(w * p for w, p in zip(weights, path, strict=True)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("std", [0.05, 0.1, 0.2])
def test_the_power_function_has_the_stated_relative_width(std):
    """The profile over time is t**gamma; its standard deviation is std times the training length."""
    profile, steps = PowerFunction(std), 20_000
    response = np.zeros(steps)
    for step in range(1, steps + 1):
        response *= 1 - profile.weight(step)
        response[step - 1] = profile.weight(step)
    assert response.sum() == pytest.approx(1)
    time = np.arange(1, steps + 1)
    mean = (response * time).sum()
    assert np.sqrt((response * (time - mean) ** 2).sum()) / steps == pytest.approx(std, rel=2e-3)
    np.testing.assert_allclose(response[9999] / response[19999], 0.5**profile.gamma, rtol=1e-3)


def test_several_at_once_and_applied():
    model = torch.nn.Linear(2, 1)
    averages = Averages(model, profiles([0.5, PowerFunction(0.1)]))
    before = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1)
    averages.update(1)
    kept = model.weight.detach().clone()
    assert torch.equal(averages.state("power-0.1")["weight"], kept)
    with averages.applied(0):
        # Step 1 of the ramp: decay 2/11.
        torch.testing.assert_close(model.weight.detach(), before * 2 / 11 + kept * 9 / 11)
    assert torch.equal(model.weight, kept)
    torch.testing.assert_close(averages.state("0.5")["weight"], before * 2 / 11 + kept * 9 / 11)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_averages_are_never_narrower_than_float32(dtype):
    model = torch.nn.Linear(3, 2).to(dtype)
    averages = Averages(model, profiles(ConstantDecay(0.5, ramp=False)))
    kept = averages.state("0.5")["weight"]
    assert kept.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    before = model.weight.detach().clone().to(kept.dtype)
    with torch.no_grad():
        model.weight.add_(1)
    averages.update(1)
    torch.testing.assert_close(averages.state("0.5")["weight"], (before + model.weight.detach().to(kept.dtype)) / 2)


def test_decays_that_differ_far_behind_the_point_have_names_of_their_own():
    assert [profile.name for profile in profiles([0.99999991, 0.99999992, 0.999])] == [
        "0.99999991",
        "0.99999992",
        "0.999",
    ]


def test_wrong_profiles_are_refused():
    with pytest.raises(InputError, match="ema decay: expected a finite number of at least 0 and below 1"):
        profiles(1.0)
    with pytest.raises(InputError, match="ema: expected averages with different names"):
        profiles([0.9, 0.9])
    with pytest.raises(InputError, match="ema std"):
        PowerFunction(0.3)
    for name in ("power-", "power-x", "power-0.3", "power-nan"):
        with pytest.raises(InputError, match=f"ema: expected 'power-' and a number.*received '{name}'"):
            profiles(name)
    with pytest.raises(
        InputError, match=r"ema decay: expected a finite number, received '0.9'.*names a power function"
    ):
        profiles("0.9")
    assert profiles(None) == []
