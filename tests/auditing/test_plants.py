"""Planted copies: what each way does to a known item."""

import numpy as np
import pytest

from memfast.auditing.controls import _plant
from memfast.auditing.plants import plants

RAMP = np.tile(np.linspace(0, 1, 9), (2, 9, 1))


def way(name, kind, number=0):
    return [plant for plant in plants(kind) if plant.name == name][number]


def made(name, kind, items, number=0):
    return way(name, kind, number).make(items, kind, np.random.default_rng(0))


def test_exact_and_flip():
    assert np.array_equal(made("exact", "images", RAMP), RAMP)
    assert np.array_equal(made("flip", "images", RAMP), RAMP[:, :, ::-1])
    assert np.array_equal(made("flip", "signals", RAMP[:, 0]), RAMP[:, 0, ::-1])


def test_shift_repeats_the_edge():
    shifted = made("shift", "images", RAMP, 1)
    assert np.array_equal(shifted[:, :, 2:], RAMP[:, :, :-2])
    assert (shifted[:, :, :2] == RAMP[:, :, :1]).all()


def test_noise_has_its_strength():
    gap = made("noise", "images", np.zeros((50, 32, 32)), 2)
    assert gap.std() == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize(("kind", "items"), [("images", RAMP), ("signals", RAMP[:, 0])])
def test_crop_of_a_ramp_is_its_middle(kind, items):
    cropped = made("crop", kind, items, 2)
    low, high = 0.5 - 0.75 / 2, 0.5 + 0.75 / 2
    np.testing.assert_allclose(cropped[0].reshape(-1, 9)[0], np.linspace(low, high, 9), atol=1e-12)


def test_recolour():
    np.testing.assert_allclose(made("recolour", "images", RAMP, 2), 0.5 + 0.7 * (RAMP - 0.5))
    signal = np.array([[1.0, 3.0]])
    np.testing.assert_allclose(made("recolour", "signals", signal, 2), [[1.3, 2.7]])


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (3, 8, 8), (1, 8, 8)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_plants_keep_shape_dtype_and_range(shape, dtype):
    items = np.random.default_rng(0).integers(0, 256, (5, *shape)).astype(dtype)
    for plant in plants("images"):
        copies = _plant(items, plant, np.random.default_rng(1), low=0.0, unit=255.0, kind="images")
        assert copies.shape == items.shape
        assert copies.dtype == items.dtype
        assert copies.min() >= 0
        assert copies.max() <= 255
        if plant.name == "exact":
            np.testing.assert_allclose(copies, items, rtol=1e-6)
