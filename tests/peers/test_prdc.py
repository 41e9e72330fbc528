"""The package prdc against ours, on data with duplicates and copies."""

import numpy as np
import pytest

from memfast.metrics import precision_recall_density_coverage, realism

prdc = pytest.importorskip("prdc", reason="prdc is not installed")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_four_scores(seed, k, capsys):
    draw = np.random.default_rng(seed)
    real, fake = draw.standard_normal((70, 5)), draw.standard_normal((60, 5)) + 0.3
    fake[:10] = real[:10] + 1e-3
    expected = prdc.compute_prdc(real_features=real, fake_features=fake, nearest_k=k)
    found = precision_recall_density_coverage(real, fake, k)._asdict()
    assert found == pytest.approx(expected, rel=1e-12)
    assert (realism(fake, real, k=k) > 0).all()
