"""The projection of the sets against scikit-learn; floors per class."""

import json

import numpy as np
import pytest
from sklearn.decomposition import PCA

from memfast.auditing import audit
from memfast.auditing.opened import open_sets
from memfast.auditing.result import project
from memfast.foundation.values import plain


def pictures(count, seed):
    """Images with two strong directions, so that components are well defined."""
    generator = np.random.default_rng(seed)
    basis = np.random.default_rng(9).normal(size=(2, 8, 8))
    weights = generator.normal(size=(count, 2)) * [30, 12]
    noise = generator.normal(size=(count, 8, 8))
    return np.clip(128 + np.tensordot(weights, basis, 1) + noise, 0, 255).astype(np.uint8)


def test_points_are_those_of_scikit_learn():
    training, generated, test = pictures(300, 0), pictures(80, 1), pictures(90, 2)
    found = plain(project(open_sets(generated, training, test)))
    model = PCA(2, svd_solver="full").fit(training.reshape(300, -1) / 255)
    np.testing.assert_allclose(found["explained"][:2], model.explained_variance_ratio_, rtol=1e-3)
    for name, rows in (("training", training), ("generated", generated), ("held_out", test)):
        known = model.transform(rows.reshape(len(rows), -1) / 255)
        points = np.array(found["points"][name])
        assert points.shape == known.shape
        for axis in range(2):
            mine, theirs = np.sort(points[:, axis]), np.sort(known[:, axis])
            distance = min(np.abs(mine - theirs).max(), np.abs(mine - np.sort(-known[:, axis])).max())
            assert distance < 2e-3, (name, axis)


def test_what_is_kept_is_bounded_and_adds_up():
    found = plain(project(open_sets(pictures(3000, 1), pictures(2500, 0))))
    assert found["fitted"] == 2000
    assert {name: len(points) for name, points in found["points"].items()} == {"training": 1000, "generated": 1000}
    for histogram in found["histograms"]:
        assert len(histogram["edges"]) == len(histogram["generated"]) + 1 <= 41
        widths = np.diff(histogram["edges"])
        for name in ("training", "generated"):
            assert np.dot(widths, histogram[name]) == pytest.approx(1, abs=1e-2)
    assert len(json.dumps(found, allow_nan=False)) < 100_000


def test_large_images_and_signals_are_made_small():
    generator = np.random.default_rng(0)
    large = generator.integers(0, 256, (12, 300, 200, 3), dtype=np.uint8)
    assert len(project(open_sets(large[:5], large)).points["generated"]) == 5
    signals = generator.normal(size=(30, 5000))
    assert len(project(open_sets(signals[:5], signals)).explained) == 3


@pytest.mark.parametrize("training", [np.zeros((9, 4, 4), np.uint8), pictures(1, 0), pictures(2, 0)])
def test_sets_without_two_components_have_no_projection(training):
    assert project(open_sets(training[:1], training)) is None


def test_floors_per_class_equal_each_class_alone():
    generator = np.random.default_rng(0)
    training, generated, test = (generator.integers(0, 256, (n, 8, 8), dtype=np.uint8) for n in (100, 40, 60))
    test[:9] = training[:9]
    labels, classes = np.arange(40) % 3, np.arange(60) % 2
    found = audit(generated, training, test, labels=labels, test_labels=classes, controls=False)
    rows = {row["label"]: row["held_out"] for row in found.figures["per_class"]["classes"]}
    alone = audit(generated, training, test[classes == 0], controls=False)
    for entry in alone.figures["criteria"]:
        if entry["applicable"]:
            assert rows[0][entry["name"]] == entry["held_out"]
    assert rows[0]["nn_ratio"]["count"] + rows[1]["nn_ratio"]["count"] == 9
    assert rows[2] is None


def test_floors_of_training_items_that_stand_in():
    generator = np.random.default_rng(0)
    training = generator.integers(0, 256, (50, 8, 8), dtype=np.uint8)
    found = audit(training[:10], training, labels=np.arange(10) % 2, training_labels=np.arange(50) % 2, planted=4)
    assert [row["held_out"]["nn_ratio"]["total"] for row in found.figures["per_class"]["classes"]] == [25, 25]
