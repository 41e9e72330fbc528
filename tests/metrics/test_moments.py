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


def test_a_saved_state_does_not_follow_later_updates():
    moments = Moments().update(ROWS[:10])
    state = moments.arrays()
    copy = Moments.from_arrays(state)
    moments.update(ROWS[10:])
    np.testing.assert_allclose(Moments.from_arrays(state).covariance, np.cov(ROWS[:10], rowvar=False), rtol=1e-9)
    copy.update(ROWS[10:20])
    np.testing.assert_allclose(moments.covariance, np.cov(ROWS, rowvar=False), rtol=1e-9, atol=1e-9)


def test_a_state_of_read_only_arrays_is_taken():
    state = Moments().update(ROWS[:10]).arrays()
    for array in state.values():
        array.flags.writeable = False
    other = Moments.from_arrays(state).update(ROWS[10:])
    np.testing.assert_allclose(other.covariance, np.cov(ROWS, rowvar=False), rtol=1e-9, atol=1e-9)


def test_a_state_that_does_not_fit_together_is_refused():
    state = Moments().update(ROWS).arrays()
    with pytest.raises(InputError, match=r"a mean \[d\] and a scatter \[d, d\], received \[5\] and \[7, 7\]"):
        Moments.from_arrays({**state, "mean": state["mean"][:5]})
