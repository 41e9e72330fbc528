"""Metrics of tables against the package gower, brute force and known answers; tests/peers has SDMetrics and others."""

import numpy as np
import pandas as pd
import pytest

from memfast.foundation.errors import InputError
from memfast.metrics import identifiability
from memfast.metrics.tables import (
    dcr_baseline_protection,
    dcr_overfitting_protection,
    distance_to_closest_record,
    gower_distance,
    inference_risk,
    linkability_risk,
    singling_out_risk,
    table_identifiability,
)

DRAW = np.random.default_rng(0)


def frame(rows, seed=0):
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": draw.integers(20, 80, rows),
            "income": draw.lognormal(10, 1, rows),
            "city": draw.choice(["Rome", "Oslo", "Bonn"], rows),
            "member": draw.random(rows) < 0.4,
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(draw.integers(0, 900, rows), unit="D"),
        }
    )


def brute_force(x, y, ranges):
    total = np.zeros((len(x), len(y)))
    for column in x:
        a, b = x[column].to_numpy(), y[column].to_numpy()
        if column in ranges:
            gap = np.abs(a[:, None] - b[None])
            total += np.minimum(gap / ranges[column], 1.0).astype(float)
        else:
            total += a[:, None] != b[None]
    return total / len(x.columns)


def test_gower_is_its_definition():
    x, y = frame(30, 1), frame(40, 2)
    both = pd.concat([x, y])
    ranges = {name: both[name].max() - both[name].min() for name in ("age", "income", "since")}
    np.testing.assert_allclose(gower_distance(x, y), brute_force(x, y, ranges), rtol=1e-12)
    np.testing.assert_allclose(gower_distance(x), gower_distance(x, x), rtol=1e-12)
    assert (np.diagonal(gower_distance(x)) == 0).all()


def test_gower_agrees_with_the_package_gower():
    """Theirs divides by a range relative to the greatest value, which is the range for columns that start at 0."""
    gower = pytest.importorskip("gower", reason="the package gower is not installed")
    x = frame(25, 3)[["age", "income", "city"]]
    for name in ("age", "income"):
        x[name] = (x[name] - x[name].min()).astype(float)
    plain, kinds = x.to_numpy(object), [False, False, True]
    for weights in (np.ones(3), np.array([1.0, 2.0, 5.0])):
        expected = gower.gower_matrix(plain, weight=weights, cat_features=kinds)
        np.testing.assert_allclose(gower_distance(x, weights=weights), expected.astype(float), atol=1e-6)


def test_missing_cells_and_codes_of_categories():
    table = {"a": np.array([1.0, np.nan, 3.0]), "b": np.array(["x", None, "x"], object), "c": np.array([1, 2, 2])}
    expected = np.array([[0, 1, (1 + 0 + 1) / 3], [1, 0, 2 / 3], [2 / 3, 2 / 3, 0]])
    np.testing.assert_allclose(gower_distance(table, categorical=["c"]), expected)


def test_copies_have_no_distance_and_no_protection():
    real, other = frame(60, 4), frame(60, 5)
    copies = real.sample(40, random_state=0)
    assert (distance_to_closest_record(copies, real) == 0).all()
    assert dcr_baseline_protection(copies, real).score == 0
    honest = dcr_baseline_protection(other, real)
    assert 0.3 < honest.score <= 1
    copied = dcr_overfitting_protection(copies, real, other)
    assert (copied.score, copied.closer_to_training) == (0.0, 1.0)
    fair = dcr_overfitting_protection(frame(80, 6), real, other)
    assert fair.score > 0.7
    assert fair.interval.low < 0.5 < fair.interval.high
    assert table_identifiability(real, real).score == 1
    assert 0.2 < table_identifiability(other, real).score < 0.8


def test_identifiability_is_its_definition():
    draw = np.random.default_rng(7)
    generated, training = draw.standard_normal((50, 3)), draw.standard_normal((70, 3))
    among = np.linalg.norm(training[:, None] - training, axis=2)
    np.fill_diagonal(among, np.inf)
    to = np.linalg.norm(training[:, None] - generated, axis=2)
    expected = to.min(1) < among.min(1)
    found = identifiability(generated, training)
    np.testing.assert_array_equal(found.identified, expected)
    assert found.score == expected.mean()


LINK = {"first": ["age", "city"], "second": ["income", "member"]}
INFER = {"known": ["age", "income", "since"], "secret": "city"}


@pytest.mark.parametrize(
    ("attack", "options"),
    [(singling_out_risk, {"columns": 3}), (linkability_risk, LINK), (inference_risk, INFER)],
    ids=["singling out", "linkability", "inference"],
)
def test_attacks_find_copies_and_nothing_else(attack, options):
    training, control = frame(150, 8), frame(150, 9)
    copied = attack(training.sample(140, random_state=1), training, control, attacks=80, **options)
    honest = attack(frame(150, 10), training, control, attacks=80, **options)
    assert copied.risk > 0.4
    assert copied.strong_enough
    assert honest.interval.low <= 0.05
    assert honest.risk < 0.25
    assert copied.interval.low <= copied.risk <= copied.interval.high


@pytest.mark.parametrize("copied", [0, 1, 30, 60])
def test_unique_names_single_out_exactly_the_copied_rows(copied):
    """Each name is one predicate, and it matches one training row where that row was copied: the rates are counts."""
    training, control = ([f"{kind} {number}" for number in range(60)] for kind in ("training", "control"))
    synthetic = training[:copied] + [f"new {number}" for number in range(60 - copied)]
    found = singling_out_risk({"name": synthetic}, {"name": training}, {"name": control}, columns=1, attacks=1000)
    assert (found.attack.count, found.attack.total) == (copied, 60)
    assert (found.control.count, found.control.total) == (0, 60)
    assert found.interval.low <= copied / 60 <= found.interval.high


def test_the_ends_of_numbers_single_out_the_row_that_has_them():
    """With one column of numbers only its least and its greatest single out a row: a copy of either is found."""
    generator = np.random.default_rng(0)
    training, control = generator.normal(size=(2, 50))
    found = singling_out_risk({"a": training}, {"a": training}, {"a": control}, columns=1, attacks=50)
    assert (found.attack.count, found.attack.total) == (2, 2)
    shifted = training + 100
    missed = singling_out_risk({"a": shifted}, {"a": training}, {"a": control}, columns=1, attacks=50)
    # "At least the greatest of the shifted" matches nothing; "at most the least of the shifted" matches everything.
    assert (missed.attack.count, missed.attack.total) == (0, 2)


def test_a_number_is_inferred_within_the_tolerance():
    training, control = frame(60, 11), frame(60, 12)
    options = {"known": ["age", "city", "since"], "secret": "income", "attacks": 60}
    assert inference_risk(training, training, control, **options).attack.fraction == 1
    assert inference_risk(frame(60, 13), training, control, **options).attack.fraction < 0.4


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: gower_distance({"a": [1]}, {"b": [1]}), "y: expected the columns a, as x, received b"),
        (lambda: gower_distance({"a": [1, 2], "b": [1]}), "columns of one length"),
        (lambda: gower_distance({"a": []}), "at least one row"),
        (lambda: gower_distance({"a": [np.inf]}), "finite numbers"),
        (lambda: gower_distance({"a": [1]}, {"a": ["x"]}), "one kind in all tables"),
        (lambda: gower_distance([1, 2]), "a data frame, or a mapping"),
        (lambda: gower_distance({"a": np.ma.masked_array([1, 2])}), "an array without a mask"),
        (lambda: gower_distance({"a": [1]}, categorical=["z"]), "categorical: expected columns among a"),
        (lambda: gower_distance({"a": [1]}, weights=[1, 2]), "one weight per row"),
        (lambda: dcr_baseline_protection({"a": [1, 1]}, {"a": [1, 1]}), "a median distance of 0"),
        (lambda: table_identifiability({"a": [1]}, {"a": [1]}), "real: expected at least 2 rows"),
        (lambda: inference_risk(*[{"a": [1, 2]}] * 3, known=["a"], secret="a"), "secret: expected"),
        (lambda: linkability_risk(*[{"a": [1, 2]}] * 3, first=["a"], second=["z"]), "expected some of a, received z"),
        (lambda: singling_out_risk(*[{"a": [1, 2]}] * 3, columns=2), "columns: expected a whole number from 1 to 1"),
    ],
)
def test_bad_input(call, text):
    with pytest.raises(InputError, match=text):
        call()
