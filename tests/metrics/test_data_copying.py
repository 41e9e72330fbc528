import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.cluster import KMeans

from memfast.foundation.errors import InputError
from memfast.metrics import c_t, copying_z
from memfast.metrics.clusters import k_means


def sets(count=400, width=6):
    generator = np.random.default_rng(0)
    centres = 8 * np.eye(width)[:3]
    return [centres[np.arange(count) % 3] + generator.standard_normal((count, width)) for _ in range(3)]


@pytest.mark.parametrize("ties", [False, True])
def test_z_equals_scipys_u(ties):
    x, y = np.random.default_rng(0).random((2, 60))
    if ties:
        x, y = np.round(x, 1), np.round(y, 1)
    u = mannwhitneyu(x, y[:40], alternative="less").statistic
    expected = (u - (60 * 40 / 2 - 0.5)) / np.sqrt(60 * 40 * 101 / 12)
    assert copying_z(x, y[:40]) == pytest.approx(expected, rel=1e-12)


def test_value_is_the_weighted_mean_over_the_cells_of_scikit_learn():
    generated, training, test = sets()
    generated = generated[100:]
    generated[:150] = training[:150]
    found = c_t(generated, training, test)
    cells = KMeans(3, n_init=10, random_state=0).fit(training)
    labels = [cells.predict(rows) for rows in (generated, training, test)]
    z, weights = [], []
    for cell in range(3):
        inside = [rows[label == cell] for rows, label in zip((generated, training, test), labels, strict=True)]
        nearest = [np.linalg.norm(rows[:, None] - inside[1], axis=2).min(axis=1) for rows in (inside[0], inside[2])]
        z.append(copying_z(*nearest))
        weights.append(len(inside[2]))
    assert found.value == pytest.approx(np.average(z, weights=weights), rel=1e-9)
    assert sorted(found.z) == pytest.approx(sorted(z), rel=1e-9)
    assert found.value < -3
    assert found.p_value < 1e-3


def test_fair_samples_stay_near_zero():
    assert abs(c_t(*sets()).value) < 3


def test_cells_with_few_generated_samples_are_left_out():
    generated, training, test = sets()
    found = c_t(generated[::3][:100], training, test)
    assert found.used.sum() == 1
    assert np.isnan(found.z[~found.used]).all()


def test_components_are_fitted_on_the_training_set():
    wide = [np.concatenate([rows, np.zeros((len(rows), 100))], axis=1) for rows in sets()]
    assert c_t(*wide, components=6).value == pytest.approx(c_t(*sets()).value, rel=1e-9)


def test_k_means_finds_what_scikit_learn_finds():
    rows = sets()[0]
    assert k_means(rows, 3).inertia == pytest.approx(KMeans(3, n_init=10, random_state=0).fit(rows).inertia_, rel=1e-9)


def test_k_means_of_equal_points():
    cells = k_means(np.ones((10, 2)), 3)
    assert cells.inertia == 0


@pytest.mark.parametrize(
    ("cut", "options", "text"),
    [
        ((10, 400, 400), {}, "generated: expected more than 20 samples in some cell, received at most"),
        ((400, 2, 400), {}, "cells: expected a whole number from 1 to 2, received 3"),
        ((400, 400, 2), {}, "test: expected at least one sample in every cell, received none in cell"),
    ],
)
def test_sets_too_small(cut, options, text):
    with pytest.raises(InputError, match=text):
        c_t(*(rows[:count] for rows, count in zip(sets(), cut, strict=True)), **options)


def test_a_mean_far_from_zero_changes_no_cell():
    generated, training, test = sets()
    expected = c_t(generated, training, test)
    found = c_t(generated + 1e8, training + 1e8, test + 1e8)
    np.testing.assert_array_equal(np.sort(found.counts, axis=0), np.sort(expected.counts, axis=0))
    assert found.value == pytest.approx(expected.value, abs=1e-6)


@pytest.mark.parametrize(("first", "text"), [([], "at least 1 row, received 0"), ([1.0, np.nan], "in row 1")])
def test_z_of_no_numbers(first, text):
    with pytest.raises(InputError, match=f"generated_distances: .*{text}"):
        copying_z(first, [1.0])


def test_the_variants_exchange_the_sets():
    draw = np.random.default_rng(9)
    training, test, generated = (draw.standard_normal((120, 3)) for _ in range(3))
    options = {"cells": 2, "seed": 3}
    swapped = c_t(training, generated, test, **options)
    assert c_t(generated, training, test, variant="memorization", **options).value == swapped.value
    first, second = np.array_split(test, 2)
    assert (
        c_t(generated, training, test, variant="mode", **options).value
        == c_t(generated, first, second, **options).value
    )
    copies = training[:60].repeat(2, axis=0) + 1e-4 * draw.standard_normal((120, 3))
    assert c_t(copies, training, test, variant="memorization", **options).value < -3
    assert abs(c_t(copies, training, test, variant="mode", **options).value) < 3
    with pytest.raises(InputError, match="variant: expected one of standard, memorization, mode"):
        c_t(generated, training, test, variant="other")
