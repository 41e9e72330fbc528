"""The Inception Score against torchmetrics and known answers."""

import numpy as np
import pytest
import torch

from memfast.foundation.errors import InputError
from memfast.metrics import inception_score


def probabilities(count, classes, seed=0, sharpness=1.0):
    logits = sharpness * np.random.default_rng(seed).standard_normal((count, classes))
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_it_agrees_with_torchmetrics():
    """Their class draws an order of its own for the splits: one split, and the mean over many, agree."""
    inception = pytest.importorskip("torchmetrics.image.inception", reason="torchmetrics is not installed")

    class Logits(torch.nn.Module):
        def forward(self, rows):
            return rows

    rows = probabilities(200, 7, sharpness=2.0)
    peer = inception.InceptionScore(feature=Logits(), splits=1, normalize=False)
    peer.update(torch.from_numpy(np.log(rows)))
    assert inception_score(rows, splits=1).value == pytest.approx(float(peer.compute()[0]), rel=1e-5)


def test_known_answers():
    assert inception_score(np.eye(5), splits=1).value == pytest.approx(5)
    assert inception_score(np.tile(np.eye(5), (4, 1)), splits=4) == (pytest.approx(5), pytest.approx(0), 4)
    assert inception_score(np.full((10, 5), 0.2), splits=2).value == pytest.approx(1)
    rows = probabilities(30, 3)
    parts = [np.exp(np.mean([np.sum(r * np.log(r / part.mean(0))) for r in part])) for part in np.split(rows, 3)]
    found = inception_score(rows, splits=3)
    assert found.value == pytest.approx(np.mean(parts))
    assert found.standard_deviation == pytest.approx(np.std(parts))


@pytest.mark.parametrize(
    ("rows", "splits", "text"),
    [
        (np.random.default_rng(0).standard_normal((20, 4)), 2, "rows of probabilities that sum to 1"),
        (np.full((4, 2), 0.5), 5, "splits: expected a whole number from 1 to 4"),
        (np.array([[1.5, -0.5]]), 1, "rows of probabilities that sum to 1"),
        (np.array([[np.nan, 1.0]]), 1, "finite values"),
    ],
)
def test_bad_input(rows, splits, text):
    with pytest.raises(InputError, match=text):
        inception_score(rows, splits=splits)
