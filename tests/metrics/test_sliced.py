import numpy as np
import ot
import pytest
import torch

from memfast.foundation.errors import InputError
from memfast.metrics import sliced, wasserstein
from memfast.metrics.sliced import random_directions


def clouds(n=200, m=200, width=7, dtype=np.float64):
    generator = np.random.default_rng(0)
    return generator.standard_normal((n, width)).astype(dtype), (generator.standard_normal((m, width)) + 0.3).astype(
        dtype
    )


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("m", [200, 130])
def test_equals_pot_on_the_same_directions(m, p):
    x, y = clouds(m=m)
    directions = random_directions(7, 50, seed=3)
    peer = ot.sliced_wasserstein_distance(x, y, projections=directions.numpy().T, p=p)
    assert wasserstein(x, y, p, method="sliced", directions=directions).value == pytest.approx(peer, rel=1e-12)


def test_float32_agrees_with_float64():
    x, y = clouds(dtype=np.float32)
    narrow, wide = (wasserstein(a, b, method="sliced").value for a, b in ((x, y), (x.astype(float), y.astype(float))))
    assert narrow == pytest.approx(wide, rel=1e-5)


def test_weights_equal_repeated_rows():
    x, y = clouds(20, 30)
    repeats = np.arange(20) % 3 + 1
    weighted = wasserstein(x, y, method="sliced", x_weights=repeats)
    repeated = wasserstein(np.repeat(x, repeats, axis=0), y, method="sliced")
    assert weighted.value == pytest.approx(repeated.value, rel=1e-12)


def test_directions_are_unit_and_repeat():
    directions = random_directions(9, 40, seed=5)
    np.testing.assert_allclose(directions.norm(dim=1), 1, rtol=1e-14)
    assert torch.equal(directions, random_directions(9, 40, seed=5))
    assert not torch.equal(directions, random_directions(9, 40, seed=6))


def test_max_sliced_finds_a_planted_direction():
    """The sets differ along one coordinate only, by 3: no direction beats it."""
    x, _ = clouds(width=30)
    y = x.copy()
    y[:, 4] += 3
    assert wasserstein(x, y, method="max_sliced", projections=16).value == pytest.approx(3, rel=1e-6)


def test_max_sliced_beats_many_random_directions():
    x, y = clouds(width=20)
    y[:, 0] *= 3
    found = wasserstein(x, y, method="max_sliced").value
    assert found >= ot.max_sliced_wasserstein_distance(x, y, n_projections=3000, seed=0)
    assert found <= wasserstein(x, y).value + 1e-9


def test_standard_error_covers_the_limit():
    x, y = clouds()
    limit = wasserstein(x, y, method="sliced", projections=20000).value
    found = wasserstein(x, y, method="sliced", projections=400, seed=1)
    assert abs(found.value - limit) < 4 * found.details["standard_error"]


def test_directions_of_another_width():
    with pytest.raises(InputError, match="directions"):
        wasserstein(*clouds(), method="sliced", directions=random_directions(3, 5))


def test_float32_far_from_zero_agrees_with_float64():
    x, y = (rows + np.float32(1e4) for rows in clouds(dtype=np.float32))
    narrow, wide = (wasserstein(a, b, method="sliced").value for a, b in ((x, y), (x.astype(float), y.astype(float))))
    assert narrow == pytest.approx(wide, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32])
def test_tensors_of_an_accelerator_are_as_exact_as_arrays(dtype, monkeypatch):
    monkeypatch.setattr(sliced, "_on_accelerator", lambda value: isinstance(value, torch.Tensor))
    x, y = (torch.from_numpy(8 * rows + 100).to(dtype) for rows in clouds())
    expected = wasserstein(x.double().numpy(), y.double().numpy(), method="sliced").value
    assert wasserstein(x, y, method="sliced").value == pytest.approx(expected, rel=1e-5)
    assert wasserstein(x, y.double().numpy(), method="sliced").value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda y: y[:, :3], "y: expected 7 features per row, as x has, received 3"),
        (lambda y: torch.where(y == y[5, 2], torch.nan, y), "y: expected finite values, .* in row 5"),
    ],
)
def test_tensors_of_an_accelerator_are_checked(change, text, monkeypatch):
    monkeypatch.setattr(sliced, "_on_accelerator", lambda value: isinstance(value, torch.Tensor))
    x, y = map(torch.from_numpy, clouds())
    with pytest.raises(InputError, match=text):
        wasserstein(x, change(y), method="sliced")


@pytest.mark.parametrize("offset", [0, 1, 100])
@pytest.mark.parametrize("noise", [1e-6, 1e-3])
def test_float32_copies_keep_their_digits_and_their_symmetry(offset, noise):
    generator = np.random.default_rng(0)
    x = (generator.random((200, 300)) + offset).astype(np.float32)
    y = x + np.float32(noise) * generator.standard_normal(x.shape).astype(np.float32)
    directions = random_directions(300, 20)
    for weights in ({}, {"x_weights": np.ones(200)}):
        found = wasserstein(x, y, method="sliced", directions=directions, **weights).value
        wide = x.astype(float), y.astype(float)
        assert found == pytest.approx(wasserstein(*wide, method="sliced", directions=directions).value, rel=1e-12)
        exact = [np.sort(directions.numpy() @ rows.T.astype(np.longdouble), axis=1) for rows in (x, y)]
        assert found == pytest.approx(float(np.sqrt(np.square(exact[0] - exact[1]).mean())), rel=1e-7)
    first, second = (wasserstein(*pair, method="sliced", directions=directions).value for pair in ((x, y), (y, x)))
    assert first == second


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_exchanged_tensors_of_an_accelerator_give_the_same_bits(dtype, monkeypatch):
    monkeypatch.setattr(sliced, "_on_accelerator", lambda value: isinstance(value, torch.Tensor))
    x = torch.from_numpy(clouds()[0]).to(dtype)
    y = x + (1e-3 * torch.from_numpy(clouds()[1])).to(dtype)
    found = wasserstein(x, y, method="sliced").value
    assert wasserstein(y, x, method="sliced").value == found
    assert wasserstein(x.double().numpy(), y.double().numpy(), method="sliced").value == pytest.approx(found, rel=1e-12)
