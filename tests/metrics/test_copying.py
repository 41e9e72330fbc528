import numpy as np
import pytest
import torch

from memfast.foundation.errors import InputError
from memfast.metrics import auth_pct, cosine_penalty, frechet_distance, mifid, neighbor_ratios


def sets(n=200, m=150, width=10):
    generator = np.random.default_rng(0)
    return generator.standard_normal((m, width)), generator.standard_normal((n, width))


def test_auth_pct_equals_its_definition():
    generated, training = sets()
    generated[:20] = training[:20] + 1e-3
    between = np.linalg.norm(generated[:, None] - training, axis=2)
    within = np.linalg.norm(training[:, None] - training, axis=2)
    np.fill_diagonal(within, np.inf)
    partner = between.argmin(axis=1)
    expected = 100 * np.mean(within.min(axis=1)[partner] < between.min(axis=1))
    assert auth_pct(generated, training) == pytest.approx(expected)


def test_auth_pct_of_copies_and_of_strangers():
    _, training = sets()
    assert auth_pct(training, training) == 0
    assert auth_pct(training + 100, training) == 100


def test_ratios_equal_their_definition():
    generated, training = sets()
    generated[:15] = training[:15]
    distances = np.sort(np.linalg.norm(generated[:, None] - training, axis=2), axis=1)
    found = neighbor_ratios(generated, training)
    ratios = distances[:, 0] / distances[:, 1]
    assert found.mean_ratio == pytest.approx(ratios.mean())
    assert found.fraction_below == pytest.approx(np.mean(ratios < 1 / 3))
    assert found.ratio_percentiles == pytest.approx(tuple(np.percentile(ratios, (5, 25, 50, 75, 95))), abs=1e-12)
    assert found.interval.low < 0.1 < found.interval.high
    assert found.undefined == 0


def test_duplicates_in_training_hide_copies_and_are_counted():
    _, training = sets()
    found = neighbor_ratios(training[:10], np.concatenate([training, training[:10]]))
    assert found.undefined == 10
    assert found.fraction_below == 0


@pytest.mark.parametrize("copies", [0, 130])
def test_mifid_equals_torchmetrics(copies):
    from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance

    generated, training = (rows.astype(np.float32) for rows in sets(150, 150))
    generated[:copies] = training[:copies] * 1.1
    training[5] *= -1
    peer = MemorizationInformedFrechetInceptionDistance(feature=_Features(10)).set_dtype(torch.float64)
    peer.update(torch.from_numpy(training), real=True)
    peer.update(torch.from_numpy(generated), real=False)
    assert mifid(generated, training, average_over="training") == pytest.approx(float(peer.compute()), rel=1e-5)


class _Features(torch.nn.Module):
    """torchmetrics asks a custom network for its width."""

    def __init__(self, width):
        super().__init__()
        self.num_features = width

    def forward(self, rows):
        return rows


def test_penalty_averages_over_the_generated_set():
    generated, training = sets()
    cosine = (generated / np.linalg.norm(generated, axis=1, keepdims=True)) @ (
        training / np.linalg.norm(training, axis=1, keepdims=True)
    ).T
    expected = (1 - np.abs(cosine)).min(axis=1).mean()
    assert cosine_penalty(generated, training) == pytest.approx(expected, rel=1e-10)


def test_penalty_of_opposite_rows_is_zero_and_zero_rows_are_left_out():
    _, training = sets()
    assert cosine_penalty(np.concatenate([-training[:5], np.zeros((1, 10))]), training) == pytest.approx(0, abs=1e-15)


def test_mifid_without_copies_is_the_frechet_distance():
    generated, training = sets()
    assert mifid(generated, training) == pytest.approx(frechet_distance(generated, training))
    assert mifid(training, training) == 0


def test_bad_input():
    generated, training = sets()
    with pytest.raises(InputError, match="training: expected at least 2 rows"):
        auth_pct(generated, training[:1])
    with pytest.raises(InputError, match="average_over"):
        mifid(generated, training, average_over="both")
    with pytest.raises(InputError, match="generated: expected a row that is not zero"):
        cosine_penalty(np.zeros((3, 10)), training)


def test_mifid_scales_with_the_features():
    generated, training = sets()
    assert mifid(1e-6 * generated, 1e-6 * training) == pytest.approx(1e-12 * mifid(generated, training), rel=1e-9)
    assert mifid(training[::-1], training) == 0.0
