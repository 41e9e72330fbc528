"""Structural similarity against torchmetrics."""

import numpy as np
import pytest
import torch

from memfast import evaluate
from memfast.foundation.errors import InputError
from memfast.metrics import structural_similarity

DRAW = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(16, 16, 3), (11, 23, 1), (20, 12)], ids=str)
def test_it_agrees_with_torchmetrics(shape):
    functional = pytest.importorskip("torchmetrics.functional.image", reason="torchmetrics is not installed")
    x = DRAW.random((6, *shape))
    y = np.clip(x + 0.2 * DRAW.standard_normal(x.shape), 0, 1)
    first, second = (torch.from_numpy(one.reshape(6, *shape[:2], -1)).permute(0, 3, 1, 2) for one in (x, y))
    _, full = functional.structural_similarity_index_measure(
        first, second, data_range=1.0, reduction="none", return_full_image=True
    )
    # Theirs averages over windows that reach beyond the image too, which it mirrors there; we leave those out.
    expected = full[..., 5:-5, 5:-5].flatten(1).mean(dim=1)
    np.testing.assert_allclose(structural_similarity(x, y), expected.numpy(), rtol=1e-6)


def test_bytes_and_floats_agree():
    x = DRAW.integers(0, 256, (4, 12, 12, 3), dtype=np.uint8)
    y = DRAW.integers(0, 256, (4, 12, 12, 3), dtype=np.uint8)
    np.testing.assert_allclose(structural_similarity(x, y), structural_similarity(x / 255, y / 255), rtol=1e-12)
    np.testing.assert_allclose(structural_similarity(x, x), 1.0, rtol=1e-12)


def test_evaluate_pairs_each_image_with_its_nearest():
    training = DRAW.integers(0, 256, (30, 12, 12, 3), dtype=np.uint8)
    generated = DRAW.integers(0, 256, (10, 12, 12, 3), dtype=np.uint8)
    generated[:5] = training[7:12]
    found = evaluate(generated, training, metrics="structural_similarity", labels=[0] * 5 + [1] * 5)
    result = found["structural_similarity"]
    assert result.per_class[0] == pytest.approx(1)
    assert result.per_class[1] < 0.5
    reason = evaluate(generated[:, :4], training[:, :4], metrics="structural_similarity")[
        "structural_similarity"
    ].reason
    assert "images of at least 11 x 11 pixels" in reason


@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        (np.zeros((2, 10, 12)), np.zeros((2, 10, 12)), "x: expected images"),
        (np.zeros((2, 3, 12, 12)), np.zeros((2, 3, 12, 12)), "Move channels to the last axis"),
        (np.zeros((2, 12, 12)), np.zeros((3, 12, 12)), "y: expected images"),
        (np.zeros((2, 12, 12)), np.zeros((2, 12, 12), np.uint8), "y: expected float64 values"),
        (np.full((2, 12, 12), np.nan), np.zeros((2, 12, 12)), "x: expected finite values"),
    ],
)
def test_bad_input(x, y, text):
    with pytest.raises(InputError, match=text):
        structural_similarity(x, y)
