import numpy as np
import pytest
import torch
from PIL import Image

from memfast.features import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from memfast.foundation.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)


def test_values_are_normalized_per_channel():
    found = Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD)(PIXELS)
    expected = (PIXELS.astype(np.float64) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    np.testing.assert_allclose(found.permute(0, 2, 3, 1), expected, atol=1e-5)


@pytest.mark.parametrize(("kernel", "resample"), [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)])
def test_resizing_is_pillows(kernel, resample):
    """On mid-tones: Pillow clips between its two passes, which white noise at full contrast would show."""
    pixels = PIXELS // 2 + 64
    found = Preprocessing(resize_to=24, resize=kernel)(pixels)
    assert found.shape == (2, 3, 24, 36)
    expected = np.asarray(Image.fromarray(pixels[0]).resize((36, 24), resample), np.float64) / 255
    assert np.abs(found[0].permute(1, 2, 0).numpy() - expected).max() < 1.5 / 255


def test_the_centre_is_cut():
    found = Preprocessing(crop_to=20)(PIXELS)
    np.testing.assert_array_equal(found[0, 0], torch.from_numpy(PIXELS[0, 10:30, 20:40, 0]).float() / 255)


def test_grey_images_are_repeated_and_alpha_is_dropped():
    grey = Preprocessing(channels=3)(PIXELS[..., 0])
    assert grey.shape == (2, 3, 40, 60)
    assert torch.equal(grey[:, 0], grey[:, 2])
    four = np.concatenate([PIXELS, PIXELS[..., :1]], axis=3)
    assert torch.equal(Preprocessing(channels=3)(four), Preprocessing()(PIXELS))


def test_floats_are_taken_from_their_range():
    symmetric = PIXELS.astype(np.float32) / 127.5 - 1
    found = Preprocessing(value_range=(-1.0, 1.0))(symmetric)
    np.testing.assert_allclose(found, Preprocessing()(PIXELS), atol=1e-6)
    with pytest.raises(InputError, match=r"float values from 0\.0 to 1\.0"):
        Preprocessing()(symmetric)


def test_signals_pass_unchanged():
    signals = np.random.default_rng(0).standard_normal((3, 140))
    np.testing.assert_allclose(Preprocessing(images=False)(signals), signals, atol=1e-6)
    with pytest.raises(InputError, match=r"images \[H, W\] or \[H, W, C\] with 1, 3 or 4 channels"):
        Preprocessing()(signals)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"resize": "nearest"}, "resize"),
        ({"std": (0.0,)}, "std"),
        ({"mean": (0.0, 1.0)}, "std: expected one positive number per mean"),
        ({"mean": ("a",)}, "mean: expected a finite number, received 'a'"),
        ({"mean": (float("nan"),)}, "mean: expected a finite number"),
        ({"resize_to": 0}, "resize_to: expected a whole number of at least 1"),
        ({"crop_to": -3}, "crop_to: expected a whole number of at least 1"),
        ({"channels": 0}, "channels: expected a whole number of at least 1"),
        ({"value_range": (1.0, 0.0)}, "value_range: expected the lower and the higher value"),
        ({"value_range": (0.0, 0.0)}, "value_range: expected the lower and the higher value"),
    ],
)
def test_settings_are_checked(options, text):
    with pytest.raises(InputError, match=text):
        Preprocessing(**options)


def test_too_small_to_cut():
    with pytest.raises(InputError, match="at least 50 pixels a side"):
        Preprocessing(crop_to=50)(PIXELS)


@pytest.mark.parametrize("channels", [1, 4])
def test_means_of_other_channels_are_refused(channels):
    pixels = np.repeat(PIXELS[..., :1], channels, axis=3)
    with pytest.raises(InputError, match=rf"items: expected images of 3 channels, .* received {channels}\."):
        Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD)(pixels)
