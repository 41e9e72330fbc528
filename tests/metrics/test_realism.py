"""Realism against its definition over all pairs in float64."""

import numpy as np
import pytest

from memfast.foundation.errors import InputError
from memfast.metrics import realism


def by_definition(generated, training, k):
    among = np.linalg.norm(training[:, None] - training, axis=2)
    radii = np.sort(among, axis=1)[:, k]
    kept = radii < np.median(radii)
    return (radii[kept] / np.linalg.norm(generated[:, None] - training[kept], axis=2)).max(axis=1)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_it_is_its_definition(offset, k):
    draw = np.random.default_rng(0)
    generated, training = draw.standard_normal((70, 6)) + offset, draw.standard_normal((90, 6)) + offset
    generated[:20] = training[:20] + 1e-4 * draw.standard_normal((20, 6))
    np.testing.assert_allclose(realism(generated, training, k=k), by_definition(generated, training, k), rtol=1e-9)


def test_copies_are_infinitely_realistic_and_outliers_are_not():
    training = np.random.default_rng(1).standard_normal((60, 3))
    found = realism(training, training, k=3)
    assert np.isinf(found).sum() == 30 - 60 % 2
    assert realism(np.full((1, 3), 50.0), training)[0] < 0.1


def test_equal_radii_are_refused():
    with pytest.raises(InputError, match="radii that are too equal"):
        realism([[0.0]], np.arange(6.0)[:, None], k=1)
