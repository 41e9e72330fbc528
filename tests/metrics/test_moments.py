import numpy as np
import pytest

from memfast.foundation.errors import InputError
from memfast.metrics import Moments

ROWS = np.random.default_rng(0).standard_normal((500, 7)) * 3 + 1e5


@pytest.mark.parametrize("cuts", [[], [1], [63, 64], [100, 250, 499]])
def test_parts_add_up_to_the_whole(cuts):
    whole = Moments()
    for part in np.split(ROWS, cuts):
        whole.merge(Moments().update(part))
    np.testing.assert_allclose(whole.mean, ROWS.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(whole.covariance, np.cov(ROWS, rowvar=False), rtol=1e-9, atol=1e-9)
    assert whole.count == 500


def test_state_travels_as_arrays():
    moments = Moments().update(ROWS[:10])
    other = Moments.from_arrays(moments.arrays()).update(ROWS[10:])
    np.testing.assert_allclose(other.covariance, np.cov(ROWS, rowvar=False), rtol=1e-9, atol=1e-9)


def test_merging_nothing_changes_nothing():
    moments = Moments().update(ROWS)
    assert moments.merge(Moments()).count == 500


def test_errors():
    with pytest.raises(InputError, match="at least 2 rows for a covariance, received 1"):
        _ = Moments().update(ROWS[:1]).covariance
    with pytest.raises(InputError, match="7 features per row, as the rows before has"):
        Moments().update(ROWS).update(ROWS[:, :3])
