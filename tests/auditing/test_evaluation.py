import json

import numpy as np
import pytest
import torch

from memfast import metrics
from memfast.auditing import audit
from memfast.auditing.evaluation import evaluate
from memfast.foundation.errors import InputError
from memfast.metrics.catalog import CATALOG, choose
from memfast.metrics.cost import estimate_cost

GENERATOR = np.random.default_rng(0)
TRAINING, TEST, GENERATED = (GENERATOR.integers(0, 256, (120, 4, 4, 3), dtype=np.uint8) for _ in range(3))
GENERATED[:30] = TRAINING[:30]
FAST = ["l2", "frechet", "prdc", "auth_pct", "neighbor_ratio", "projected", "sliced_wasserstein"]


def flat(images):
    return images.reshape(len(images), -1) / 255


def test_every_metric_has_a_finite_value_within_its_range():
    found = evaluate(GENERATED, TRAINING, TEST)
    assert list(found) == [value.name for row in CATALOG for value in row.values]
    for result in found.values():
        assert np.isfinite(result.value), result.name
        assert result.low <= result.value <= result.high, result.name
        assert (result.floor is None) == (result.metric in ("c_t", "fld"))
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
    from memfast.metrics import shared

    names = ["l2", "auth_pct", "neighbor_ratio", "prdc"]
    known = evaluate(GENERATED, TRAINING, TEST, metrics=names)
    neighbors = audit(GENERATED, TRAINING, TEST, controls=False).neighbors
    searched, real = [], shared.nearest

    def spy(queries, database, k, **options):
        searched.append((len(queries), queries is database))
        return real(queries, database, k, **options)

    monkeypatch.setattr(shared, "nearest", spy)
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
    import memfast.metrics.shared as shared

    searches = []
    original = shared.nearest
    monkeypatch.setattr(shared, "nearest", lambda *a, **o: searches.append(a[2]) or original(*a, **o))
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
        ((GENERATED[:3], TRAINING), {"metrics": "prdc"}, "generated: expected at least 6 samples for 'prdc'"),
        ((GENERATED, TRAINING), {"labels": [1, 2]}, "labels: expected one label per row"),
        ((np.full((9, 4), np.nan), np.ones((9, 4))), {}, "NaN or an infinity in (item|row) 0"),
    ],
)  # fmt: skip
def test_bad_input(arguments, options, text):
    with pytest.raises(InputError, match=text):
        evaluate(*arguments, **options)
