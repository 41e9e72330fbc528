import numpy as np
import ot
import pytest
from scipy.spatial.distance import cdist, jensenshannon
from scipy.stats import wasserstein_distance
from sklearn.decomposition import PCA

from memfast.foundation.errors import InputError
from memfast.metrics import jensen_shannon, l2_distances, mean_pair_distance, projected, projected_distances


def sets(m=150, n=200, d=60):
    generator = np.random.default_rng(0)
    mix = generator.standard_normal((d, d))
    return generator.standard_normal((m, d)) @ mix + 1, generator.standard_normal((n, d)) @ mix


def shannon_by_scipy(x, y, bins=50, base=None):
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    counts = [np.histogram(v, bins, (low, high))[0] / len(v) + 1e-12 for v in (x, y)]
    return jensenshannon(*counts, base=base)


def test_defaults_equal_scikit_learn_and_scipy():
    generated, training = sets()
    pca = PCA(50, svd_solver="full").fit(training)
    x, y = pca.transform(generated), pca.transform(training)
    found = projected_distances(generated, training)
    assert found.components == 50
    assert found.wasserstein == pytest.approx(np.mean([wasserstein_distance(x[:, j], y[:, j]) for j in range(50)]))
    # The sign of a component mirrors its histogram; only values on a bin's edge could tell the two apart.
    assert found.jensen_shannon == pytest.approx(
        np.mean([shannon_by_scipy(x[:, j], y[:, j]) for j in range(50)]), rel=1e-6
    )
    assert found.explained_variance == pytest.approx(pca.explained_variance_ratio_.sum())


def test_two_components_and_sliced():
    generated, training = sets()
    pca = PCA(2, svd_solver="full").fit(training)
    found = projected_distances(generated, training, components=2, wasserstein_kind="sliced")
    limit = ot.sliced_wasserstein_distance(
        pca.transform(generated), pca.transform(training), n_projections=4000, seed=0
    )
    assert found.wasserstein == pytest.approx(limit, rel=0.1)


def test_few_training_rows_bound_the_components():
    generated, training = sets(n=20)
    assert projected_distances(generated, training).components == 19


@pytest.mark.parametrize("base", [None, 2])
@pytest.mark.parametrize("bins", [2, 50, 63])
def test_jensen_shannon_equals_scipy(bins, base):
    x, y = sets()[0][:, 0], sets()[1][:, 0]
    assert jensen_shannon(x, y, bins=bins, base=base) == pytest.approx(shannon_by_scipy(x, y, bins, base), rel=1e-9)
    assert jensen_shannon(x, y, bins=bins, base=base, root=False) == pytest.approx(
        shannon_by_scipy(x, y, bins, base) ** 2, rel=1e-9
    )


def test_jensen_shannon_limits():
    assert jensen_shannon([1.0, 2.0], [1.0, 2.0]) == pytest.approx(0, abs=1e-9)
    assert jensen_shannon([0.0] * 5, [9.0] * 3) == pytest.approx(np.sqrt(np.log(2)), rel=1e-6)
    assert jensen_shannon([3.0], [3.0, 3.0]) == pytest.approx(0, abs=1e-9)


def test_training_range_keeps_outliers_in_the_end_bins():
    generated, training = [0.0, 1.0, 1000.0], [0.0, 0.5, 1.0]
    assert jensen_shannon(generated, training, histogram_range="training", bins=2) == pytest.approx(
        jensen_shannon([0.0, 1.0, 1.0], training, bins=2)
    )


def test_l2_equals_brute_force():
    generated, training = sets()
    distances = cdist(generated, training) / np.sqrt(60)
    found = l2_distances(generated, training)
    assert found.nearest == pytest.approx(distances.min(axis=1).mean(), rel=1e-12)
    assert found.all_pairs == pytest.approx(distances.mean(), rel=1e-12)
    assert found.nearest_interval.low < found.nearest < found.nearest_interval.high
    plain = l2_distances(generated, training, per_feature=False, all_pairs=False)
    assert plain.nearest == pytest.approx(found.nearest * np.sqrt(60))
    assert np.isnan(plain.all_pairs)


def test_pairs_are_streamed(monkeypatch):
    generated, training = sets()
    whole = mean_pair_distance(generated, training)
    monkeypatch.setattr(projected, "PAIR_ENTRIES", 450)
    assert mean_pair_distance(generated, training) == pytest.approx(whole, rel=1e-13)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"components": 61}, "components: expected a whole number from 1 to 60"),
        ({"wasserstein_kind": "emd"}, "wasserstein_kind"),
        ({"bins": 0}, "bins"),
        ({"histogram_range": "wide"}, "histogram_range"),
    ],
)
def test_bad_input(options, text):
    with pytest.raises(InputError, match=text):
        projected_distances(*sets(), **options)


@pytest.mark.parametrize("kind", ["duplicates", "dependent"])
def test_directions_without_variance_are_left_out(kind):
    """They would be whatever the solver returns: the value would depend on the order of the rows."""
    generated, training = sets(d=8)
    training = np.repeat(training[:6], 5, axis=0) if kind == "duplicates" else np.tile(training[:, :4], 2)
    rank = 5 if kind == "duplicates" else 4
    found = projected_distances(generated, training)
    again = projected_distances(generated, np.random.default_rng(1).permutation(training))
    assert found.components == len(found.wasserstein_per_component) == rank
    assert found.wasserstein == pytest.approx(again.wasserstein, rel=1e-9)
    assert found.jensen_shannon == pytest.approx(again.jensen_shannon, rel=1e-9)
    with pytest.raises(InputError, match=f"components: expected at most {rank}, the dimensions that the training rows"):
        projected_distances(generated, training, components=rank + 1)


def test_jensen_shannon_of_values_that_are_almost_equal():
    x = 1 + np.arange(5) * np.finfo(np.float64).eps
    assert jensen_shannon(x, x) == 0.0
    assert jensen_shannon(1e300 * x, 1e300 * x) == 0.0


def test_jensen_shannon_has_no_range_of_one_training_value():
    with pytest.raises(InputError, match="training: expected values that vary, with histogram_range='training'"):
        jensen_shannon([0.0, 1.0], [2.0, 2.0], histogram_range="training")
