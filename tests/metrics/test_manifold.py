import contextlib
import io

import numpy as np
import pytest
from prdc import compute_prdc

from memfast.foundation.errors import InputError
from memfast.metrics import manifold_counts, precision_recall_density_coverage


def sets(n=500, m=450, width=20, dtype=np.float32, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((n, width)).astype(dtype), generator.standard_normal((m, width)).astype(dtype)


def peer(real, generated, k):
    with contextlib.redirect_stdout(io.StringIO()):
        return compute_prdc(real.astype(np.float64), generated.astype(np.float64), k)


@pytest.mark.parametrize(
    ("n", "m", "width", "k"), [(500, 450, 20, 5), (63, 500, 3, 1), (200, 63, 200, 10), (11, 7, 1, 5)]
)
def test_equals_prdc(n, m, width, k):
    real, generated = sets(n, m, width)
    assert precision_recall_density_coverage(real, generated, k)._asdict() == pytest.approx(peer(real, generated, k))


def test_equals_prdc_where_generated_samples_are_copies():
    real, generated = sets()
    generated[:100] = real[:100]
    assert precision_recall_density_coverage(real, generated)._asdict() == pytest.approx(peer(real, generated, 5))


def test_near_the_readmes_values_at_a_tenth_of_its_size():
    """N(0, I), 1,000 x 1,000-d: prdc's README quotes .4772 .4705 1.0555 .9735 at ten times the rows."""
    scores = precision_recall_density_coverage(*sets(1000, 1000, 1000))
    assert scores.density == pytest.approx(1.0555, abs=0.12)
    assert scores.coverage == pytest.approx(0.9735, abs=0.04)


def test_comparison_conventions_differ_at_radius_zero():
    """Every real sample stands twice, so all radii for k=1 are 0: '<' finds nothing, '<=' finds the copies."""
    real = np.repeat(np.arange(4.0)[:, None], 2, axis=0)
    generated = np.array([[0.0], [1.0], [9.0]])
    strict = precision_recall_density_coverage(real, generated, 1)
    closed = precision_recall_density_coverage(real, generated, 1, closed=True)
    assert (strict.precision, strict.density, strict.coverage) == (0, 0, 0)
    assert closed.precision == pytest.approx(2 / 3)
    assert closed.density == pytest.approx(4 / 3)
    assert closed.coverage == pytest.approx(0.5)


def test_a_point_on_a_sphere_is_decided_by_the_convention():
    """A generated copy of a real sample's k-th neighbour lies exactly on the sphere, whatever float rounding says."""
    real, _ = sets(200, 10, 50)
    strict, closed = (
        precision_recall_density_coverage(real, real.copy(), 3, closed=closed) for closed in (False, True)
    )
    assert strict.density == pytest.approx(1.0)
    assert closed.density == pytest.approx(4 / 3)


def test_disjoint_and_equal_sets():
    real, generated = sets()
    assert precision_recall_density_coverage(real, generated + 1000) == (0, 0, 0, 0)
    assert precision_recall_density_coverage(np.ones((9, 2)), np.ones((9, 2))) == (0, 0, 0, 0)
    assert precision_recall_density_coverage(np.ones((9, 2)), np.ones((9, 2)), closed=True) == (1, 1, 9 / 5, 1)


def test_offset_and_float64_data():
    real, generated = sets(dtype=np.float64)
    shifted = precision_recall_density_coverage(real + 1e5, generated + 1e5)
    assert shifted == pytest.approx(precision_recall_density_coverage(real, generated), abs=1e-3)


@pytest.mark.parametrize("scale", [2.0**-400, 2.0**-100, 2.0**70, 2.0**300], ids=["1e-120", "1e-30", "1e21", "1e90"])
def test_scale_beyond_float32_changes_nothing(scale):
    real, generated = sets(80, 70, dtype=np.float64)
    expected = precision_recall_density_coverage(real, generated)
    assert precision_recall_density_coverage(real * scale, generated * scale) == expected


def test_counts_average_to_scores_and_intervals_hold_them():
    counts = manifold_counts(*sets())
    scores, intervals = counts.scores(), counts.intervals()
    for name, value in scores._asdict().items():
        assert intervals[name].low <= value <= intervals[name].high
    assert intervals["precision"].high - intervals["precision"].low < 0.1


def test_bad_input():
    real, generated = sets(5, 10)
    with pytest.raises(InputError, match="real: expected more than k = 5 rows, received 5"):
        precision_recall_density_coverage(real, generated)
    with pytest.raises(InputError, match="k: expected a whole number of at least 1, received 0"):
        precision_recall_density_coverage(real, generated, 0)
    with pytest.raises(InputError, match="generated: expected 20 features per row, as real has, received 3"):
        precision_recall_density_coverage(real, generated[:, :3])
