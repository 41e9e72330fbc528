"""The embedded data is what it says it is."""

from collections import Counter

import numpy as np

from memfast.data.demo_images import demo_images


def test_two_thousand_balanced_images():
    source = demo_images()
    assert len(source) == 2000
    assert source.item_shape == (28, 28)
    assert set(Counter(source.labels.tolist()).values()) == {200}
    assert set(Counter(source.labels[:500].tolist()).values()) == {50}
    assert source.item_name(0).startswith("Fashion-MNIST train ")


def test_half_size_is_the_rounded_mean_of_four_pixels():
    full, half = demo_images().array.astype(float), demo_images(14).array
    means = full.reshape(2000, 14, 2, 14, 2).mean(axis=(2, 4))
    np.testing.assert_array_equal(half, np.floor(means + 0.5))
