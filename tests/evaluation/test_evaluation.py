import json

import numpy as np
import pytest
import torch

from memfast import metrics
from memfast.auditing import audit
from memfast.evaluation import evaluate
from memfast.foundation.errors import InputError
from memfast.metrics.cost import estimate_cost
from memfast.metrics.registry import CATALOG, choose

GENERATOR = np.random.default_rng(0)
TRAINING, TEST, GENERATED = (GENERATOR.integers(0, 256, (120, 4, 4, 3), dtype=np.uint8) for _ in range(3))
GENERATED[:30] = TRAINING[:30]
TOO_SMALL = ["structural_similarity"]
UNFLOORED = {"fld"}
FAST = ["l2", "frechet", "prdc", "auth_pct", "neighbor_ratio", "projected", "sliced_wasserstein"]


def flat(images):
    return images.reshape(len(images), -1) / 255


def probabilities(rows):
    scores = np.random.default_rng(1).random((len(rows), 5))
    return scores / scores.sum(axis=1, keepdims=True)


def test_every_metric_has_a_finite_value_within_its_range():
    classes = {"generated": probabilities(GENERATED), "test": probabilities(TEST)}
    found = evaluate(GENERATED, TRAINING, TEST, class_probabilities=classes)
    assert list(found) == [value.name for row in CATALOG for value in row.values]
    assert [name for name, result in found.items() if not result.computed] == TOO_SMALL
    for result in found.values():
        if not result.computed:
            continue
        assert np.isfinite(result.value), result.name
        assert result.low <= result.value <= result.high, result.name
        assert (result.floor is None) == (result.name in UNFLOORED), result.name
        if result.interval is not None:
            assert result.interval[0] <= result.value <= result.interval[1], result.name
    json.dumps([result.to_dict() for result in found.values()], allow_nan=False)


def test_values_are_those_of_the_functions():
    found = evaluate(GENERATED, TRAINING, metrics=FAST)
    x, y = flat(GENERATED), flat(TRAINING)
    scores = metrics.precision_recall_density_coverage(y, x)
    ratios = metrics.neighbor_ratios(x, y)
    expected = {
        "frechet_distance": metrics.frechet_distance(x, y),
        "auth_pct": metrics.auth_pct(x, y),
        "l2_nearest": metrics.l2_distances(x, y).nearest,
        "l2_all_pairs": metrics.l2_distances(x, y).all_pairs,
        "neighbor_ratio": ratios.mean_ratio,
        "neighbor_ratio_below": ratios.fraction_below,
        "wasserstein_1_components": metrics.projected_distances(x, y).wasserstein,
        "jensen_shannon_components_2": metrics.projected_distances(x, y, components=2).jensen_shannon,
        "sliced_wasserstein_2": metrics.wasserstein(x, y, method="sliced").value,
        **scores._asdict(),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, rel=1e-9), name


def test_planted_copies_move_every_value_the_way_the_catalogue_says():
    """A quarter of copies against none, same held-out distribution: the direction `copying` is what happens."""
    clean = GENERATED.copy()
    clean[:30] = GENERATOR.integers(0, 256, (30, 4, 4, 3), dtype=np.uint8)
    names = ["l2", "auth_pct", "neighbor_ratio", "c_t", "fld", "wasserstein"]
    before, after = (evaluate(rows, TRAINING, TEST, metrics=names, floor=False) for rows in (clean, GENERATED))
    for name, result in after.items():
        if result.copying != "none":
            assert (result.value > before[name].value) == (result.copying == "higher"), name


def test_neighbours_of_an_audit_are_not_searched_again(monkeypatch):
    from memfast.metrics import shared_neighbors

    names = ["l2", "auth_pct", "neighbor_ratio", "prdc"]
    known = evaluate(GENERATED, TRAINING, TEST, metrics=names)
    neighbors = audit(GENERATED, TRAINING, TEST, controls=False).neighbors
    searched, real = [], shared_neighbors.nearest

    def spy(queries, database, k, **options):
        searched.append((len(queries), queries is database))
        return real(queries, database, k, **options)

    monkeypatch.setattr(shared_neighbors, "nearest", spy)
    found = evaluate(GENERATED, TRAINING, TEST, metrics=names, neighbors=neighbors)
    assert all(same for _, same in searched)
    assert {name: (one.value, one.floor, one.interval) for name, one in found.items()} == {
        name: (one.value, one.floor, one.interval) for name, one in known.items()
    }
    doubled = np.concatenate([TRAINING, TRAINING[:3]])
    assert audit(GENERATED, doubled, controls=False).neighbors is None
    with pytest.raises(InputError, match=r"neighbours of generated: expected .* \[9, k\], received \[120, 50\]"):
        evaluate(GENERATED[:9], TRAINING, metrics="auth_pct", neighbors=neighbors)


def test_floor_is_the_held_out_set_in_the_generated_sets_place():
    found = evaluate(GENERATED, TRAINING, TEST, metrics=FAST)
    floor = evaluate(TEST, TRAINING, metrics=FAST)
    for name, result in found.items():
        assert result.floor == pytest.approx(floor[name].value, rel=1e-9), name


def test_per_class_means_average_to_the_value():
    labels = np.arange(120) % 3
    found = evaluate(GENERATED, TRAINING, metrics="l2,prdc,auth_pct", labels=labels)
    for name in ("l2_nearest", "precision", "density", "auth_pct"):
        assert set(found[name].per_class) == {0, 1, 2}
        assert np.mean(list(found[name].per_class.values())) == pytest.approx(found[name].value)
    assert found["recall"].per_class is None


def test_features_of_a_network_and_given_ones_agree(tmp_path):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 9))
    found = evaluate(
        GENERATED, TRAINING, metrics="frechet", features=network, extraction={"cache": tmp_path, "device": "cpu"}
    )
    with torch.no_grad():
        rows = [network(torch.from_numpy(x.transpose(0, 3, 1, 2)) / 255).numpy() for x in (GENERATED, TRAINING)]
    given = evaluate(*rows, metrics="frechet", features="given")
    assert found["frechet_distance"].value == pytest.approx(given["frechet_distance"].value, rel=1e-5)


def test_neighbours_are_searched_once(monkeypatch):
    from memfast.metrics import shared_neighbors

    searches = []
    original = shared_neighbors.nearest
    monkeypatch.setattr(shared_neighbors, "nearest", lambda *a, **o: searches.append(a[2]) or original(*a, **o))
    evaluate(GENERATED, TRAINING, metrics="l2,prdc,auth_pct,neighbor_ratio")
    assert sorted(searches) == [2, 6, 6]


def test_a_name_of_a_value_chooses_its_metric():
    assert [row.name for row in choose("recall, frechet", has_test=False)] == ["prdc", "frechet"]
    assert set(evaluate(GENERATED, TRAINING, metrics="recall")) == {"precision", "recall", "density", "coverage"}


def test_cost_grows_with_the_sets_and_counts_the_floor():
    small = estimate_cost({"generated": (100, 8), "training": (100, 8)}, "prdc")
    large = estimate_cost({"generated": (100, 8), "training": (1000, 8)}, "prdc")
    floor = estimate_cost({"generated": (100, 8), "training": (100, 8), "test": (100, 8)}, "prdc")
    assert sum(large.operations.values()) > 5 * sum(small.operations.values())
    assert floor.operations["prdc"] == 2 * small.operations["prdc"]
    assert small.total_seconds > 0


def test_progress_tells_the_cost(capsys):
    evaluate(GENERATED, TRAINING, metrics="frechet", progress=True)
    assert "s expected (frechet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        ((GENERATED, TRAINING), {"metrics": "beauty"}, "metrics: expected names among wasserstein"),
        ((GENERATED, TRAINING), {"metrics": "c_t"}, "test: expected a held-out set, which 'c_t' needs, received none"),
        ((GENERATED, TRAINING[:, :3]), {}, "sets: expected items of one shape"),
        ((GENERATED, TRAINING, TEST), {"metrics": {"c_t": {"cels": 2}}}, "its own arguments"),
        ((GENERATED, TRAINING), {"metrics": {"prdc": {"k": 0}}}, "k: expected a whole number of at least 1"),
        ((GENERATED, TRAINING), {"metrics": "{"}, "metrics: expected names, or JSON"),
        ((GENERATED, TRAINING), {"options": {"no": 1}}, "options: expected options of metrics, received 'no'"),
        ((GENERATED, TRAINING), {"labels": [1, 2]}, "labels: expected one label per row"),
        ((np.full((9, 4), np.nan), np.ones((9, 4))), {}, "NaN or an infinity in (item|row) 0"),
    ],
)  # fmt: skip
def test_bad_input(arguments, options, text):
    with pytest.raises(InputError, match=text):
        evaluate(*arguments, **options)


def test_one_sample_gives_every_metric_whose_needs_are_met_and_a_reason_for_the_others():
    found = evaluate(GENERATED[:1], TRAINING)
    assert list(found) == [value.name for row in CATALOG for value in row.values]
    reasons = {name: result.reason for name, result in found.items() if not result.computed}
    assert reasons["frechet_distance"] == "needs at least 2 generated samples, received 1"
    assert reasons["c_t"] == "needs a held-out set (test=...)"
    for name in ("wasserstein_2", "sliced_wasserstein_2", "l2_nearest", "auth_pct", "neighbor_ratio", "vendi"):
        assert found[name].computed, name
        assert np.isfinite(found[name].value), name
    assert found["c_t"].to_dict()["value"] is None


CONSTANT = np.full((60, 4), 3.0)
ZEROS = np.zeros((60, 4))
DRAWN = np.random.default_rng(3).standard_normal((60, 4))
COPIES = DRAWN[np.random.default_rng(4).integers(0, 3, 60)]


QUICK = {"all": {}, "fld": {"epochs": 3}, "kernel": {"subsets": 5}, "kernel_rbf": {"subsets": 5}}
AWKWARD = {
    "constant generated": (CONSTANT, DRAWN, DRAWN + 1),
    "constant training": (DRAWN, CONSTANT, DRAWN),
    "constant test": (DRAWN, DRAWN + 1, CONSTANT),
    "all constant": (CONSTANT,) * 3,
    "zero generated": (ZEROS, DRAWN, DRAWN + 1),
    "zero training": (DRAWN, ZEROS, DRAWN),
    "all zero": (ZEROS,) * 3,
    "few different generated": (COPIES, DRAWN, DRAWN + 1),
    "few different training": (DRAWN, COPIES, COPIES),
    "all equal": (DRAWN,) * 3,
    "one held out": (DRAWN, DRAWN + 1, DRAWN[:1]),
    "two each": (DRAWN[:2],) * 3,
    "one training": (DRAWN, DRAWN[:1], DRAWN),
    "huge": (1e200 * DRAWN, 1e200 * DRAWN[::-1], 1e200 * (DRAWN + 1)),
    "huge training": (DRAWN, 1e160 * DRAWN, DRAWN),
    "large": (1e100 * DRAWN, 1e100 * (DRAWN + 1), 1e100 * DRAWN),
    "tiny": (1e-200 * DRAWN, 1e-200 * (DRAWN + 1), 1e-200 * DRAWN),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sets", AWKWARD.values(), ids=AWKWARD.keys())
def test_each_metric_gives_a_value_or_a_reason(sets):
    """Whatever the sets: nothing is raised, no value is NaN or infinite, and a reason is a sentence of ours."""
    found = evaluate(*sets, metrics=QUICK, features="given")
    assert list(found) == [value.name for row in CATALOG for value in row.values]
    for name, result in found.items():
        if result.computed:
            assert np.isfinite(result.value), name
            assert result.low <= result.value <= result.high * (1 + 1e-9), name
        else:
            assert not any(word in result.reason for word in ("Error:", "Warning:", "Exception")), (name, result.reason)
        assert result.floor is None or np.isfinite(result.floor), name
    json.dumps([result.to_dict() for result in found.values()], allow_nan=False)


def test_a_metric_that_breaks_does_not_stop_the_others(monkeypatch):
    from memfast.metrics.frechet import Frechet

    def broken(self, inputs):
        raise ZeroDivisionError("no")

    monkeypatch.setattr(Frechet, "compute", broken)
    found = evaluate(GENERATED, TRAINING, metrics="frechet,l2")
    assert found["frechet_distance"].reason == "ZeroDivisionError: no"
    assert found["l2_nearest"].computed


def test_options_of_each_metric():
    found = evaluate(GENERATED, TRAINING, TEST, metrics={"c_t": {"cells": 2}, "prdc": {"k": 3}})
    assert set(found) == {"c_t", "precision", "recall", "density", "coverage"}
    assert len(found["c_t"].details["z"]) == 2
    assert found["precision"].details["k"] == 3
    x, y, t = flat(GENERATED), flat(TRAINING), flat(TEST)
    assert found["c_t"].value == metrics.c_t(x, y, t, cells=2).value
    assert found["density"].value == metrics.precision_recall_density_coverage(y, x, 3).density
    same = evaluate(GENERATED, TRAINING, TEST, metrics='{"c_t": {"cells": 2}, "prdc": {"k": 3}}')
    assert {name: one.value for name, one in same.items()} == {name: one.value for name, one in found.items()}
    every = choose({"all": {}, "c_t": {"cells": 2}}, has_test=True)
    assert len(every) == len(CATALOG)
    assert next(row for row in every if row.name == "c_t").cells == 2
    assert choose("prdc", has_test=False, options={"k": 4})[0].k == 4
    assert choose(choose("prdc,l2", has_test=False), has_test=False, options={"k": 4})[0].k == 4


def test_the_generalization_gap_has_the_floor_of_held_out_against_held_out():
    """Honest Gaussians in few dimensions give a clearly negative gap; the floor gives as much, copies give more."""
    draw = np.random.default_rng(0)
    training, test, honest = (draw.standard_normal((400, 4)) for _ in range(3))
    copies = training[draw.integers(0, 400, 400)] + 1e-3 * draw.standard_normal((400, 4))
    found = evaluate(honest, training, test, metrics="fld", features="given")["generalization_gap"]
    assert found.value < -3
    assert found.details["gap_of_as_few_as_the_floor"] == pytest.approx(found.floor, abs=12)
    copied = evaluate(copies, training, test, metrics="fld", features="given")["generalization_gap"]
    assert copied.details["gap_of_as_few_as_the_floor"] < copied.floor - 40


def test_other_packages_add_metrics():
    """An entry of the registry is enough: the orchestrator knows no names."""
    from dataclasses import dataclass
    from typing import ClassVar

    from memfast.metrics import METRICS, Metric, MetricOutcome, MetricValue

    @dataclass(frozen=True)
    class MeanShift(Metric):
        name: ClassVar = "mean_shift"
        summary: ClassVar = "largest difference of the means"
        source: ClassVar = "a test"
        values: ClassVar = (MetricValue("mean_shift", "lower", "none", 0.0, float("inf")),)
        scale: float = 1.0

        def compute(self, inputs):
            shift = np.abs(inputs.generated.mean(0) - inputs.training.mean(0)).max()
            return {"mean_shift": MetricOutcome(self.scale * float(shift))}

    METRICS.register(MeanShift)
    try:
        found = evaluate(GENERATED, TRAINING, TEST, metrics={"mean_shift": {"scale": 2.0}})
        assert found["mean_shift"].value == pytest.approx(
            2 * np.abs(flat(GENERATED).mean(0) - flat(TRAINING).mean(0)).max()
        )
        assert found["mean_shift"].floor > 0
    finally:
        METRICS._entries.pop("mean_shift")


def test_old_places_warn():
    with pytest.warns(DeprecationWarning, match=r"use memfast.evaluation.evaluate"):
        from memfast.auditing.evaluation import evaluate as old
    assert old is evaluate


def test_tables_are_compared_on_the_training_sets_scale():
    pa = pytest.importorskip("pyarrow", reason="the package pyarrow is not installed")
    random = np.random.default_rng(0)
    ages, cities = random.integers(20, 80, 60), random.choice(["Bonn", "Oslo", "Rome"], 60)
    training = pa.table({"age": ages, "city": cities})
    copies = pa.table({"age": ages[:20], "city": np.where(cities[:20] == "Rome", "Oslo", cities[:20])})

    def by_hand(ages_of, cities_of):
        numbers = (ages_of - ages.min()) / np.ptp(ages)
        places = cities_of[:, None] == np.array(["Bonn", "Oslo", "Rome", None])
        return np.column_stack([numbers, places * np.sqrt(0.5)])

    expected = evaluate(by_hand(ages[:20], copies["city"].to_numpy()), by_hand(ages, cities), metrics=["prdc"])
    found = evaluate(copies, training, metrics=["prdc"])
    assert {name: result.value for name, result in found.items()} == pytest.approx(
        {name: result.value for name, result in expected.items()}
    )
