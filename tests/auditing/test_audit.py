"""The audit against brute force, and its answers to data that cannot be audited."""

import json
import re

import numpy as np
import pytest
import torch

import memfast
from memfast.auditing import AuditResult, audit
from memfast.criteria import Absolute, NnRatio
from memfast.data import ArraySource
from memfast.foundation.errors import InputError


def images(count, seed, shape=(8, 8)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture(scope="module")
def sets():
    training = images(150, 0)
    generated = images(60, 1)
    generated[:20] = training[40:60]
    generated[5:20, 0, 0] ^= 1
    return generated, training, images(70, 2)


@pytest.fixture(scope="module")
def result(sets):
    return audit(*sets, labels=np.arange(60) % 3)


def without_commit(result):
    """The figures, less the checkout's state: files may be edited while tests run."""
    return {**result.figures, "provenance": {**result.figures["provenance"], "memfast_commit": None}}


def brute(queries, database):
    squared = (
        (queries[:, None].reshape(len(queries), 1, -1).astype(np.int64) - database.reshape(1, len(database), -1)) ** 2
    ).sum(-1)
    order = np.argsort(squared, axis=1, kind="stable")
    return np.take_along_axis(squared, order, 1), order


def test_every_criterion_equals_brute_force(sets, result):
    generated, training, test = sets
    own = brute(training, training)[0][:, 1]
    for queries, side in ((generated, "generated"), (test, "held_out")):
        squared, order = brute(queries, training)
        distances = np.sqrt(squared)
        known = {
            "nn_ratio": 9 * squared[:, 0] < squared[:, 1],
            "calibrated": distances[:, 0] / (0.5 * distances[:, :50].mean(axis=1)) < 1,
            "absolute": distances[:, 0] / 8 / 255 <= 0.05,
            "authenticity": squared[:, 0] < own[order[:, 0]],
        }
        for name, flags in known.items():
            assert result.criterion(name)[side]["count"] == flags.sum(), (name, side)
    assert result.criterion("nn_ratio")["generated"]["count"] == 20
    assert result.criterion("nn_ratio")["generated"]["distinct_training_items"] == 20


@pytest.mark.parametrize("held_out", [99, 100, 350])
def test_the_matched_threshold_says_what_share_of_held_out_items_is_beyond_it(sets, held_out):
    generated, training, _ = sets
    test = images(held_out, 7)
    found = audit(generated, training, test).criterion("absolute")["matched"]
    if held_out < 100:
        assert found is None
        return
    scores, floor = (np.sqrt(brute(one, training)[0][:, 0]) / 8 / 255 for one in (generated, test))
    assert found["held_out_fraction"] == (floor < found["threshold"]).mean() <= 0.01
    assert found["generated"]["count"] == (scores < found["threshold"]).sum()
    assert found["threshold"] in floor


def test_pairs_name_who_copied_whom_worst_first(sets, result):
    generated, training, _ = sets
    squared, order = brute(generated, training)
    rows = list(result.pairs.rows())
    assert sorted(row["generated"] for row in rows) == list(range(60))
    for row in rows:
        assert row["training"] == order[row["generated"], 0]
        assert row["distance"] == np.sqrt(squared[row["generated"], 0] / 64) / 255
    assert [row["generated"] for row in rows[:5]] == [0, 1, 2, 3, 4]
    assert {row["generated"] for row in rows[:20]} == set(range(20))
    assert {row["training"] for row in rows[:20]} == set(range(40, 60))
    assert all("nn_ratio" in row["criteria"].split() for row in rows[:20])
    assert not any("nn_ratio" in row["criteria"].split() for row in rows[20:])


def test_classes_add_up(result):
    classes = result.figures["per_class"]["classes"]
    assert [row["label"] for row in classes] == [0, 1, 2]
    assert sum(row["criteria"]["nn_ratio"]["count"] for row in classes) == 20
    assert sum(row["total"] for row in classes) == 60


def test_classes_of_the_nearest_training_item(sets):
    generated, training, test = sets
    found = audit(generated, training, test, training_labels=np.arange(150) // 50, controls=False, criteria="nndr")
    assert found.figures["per_class"]["labels_of"] == "nearest training item"
    assert {row["label"]: row["criteria"]["nn_ratio"]["count"] for row in found.figures["per_class"]["classes"]} == {
        0: 10, 1: 10, 2: 0,
    }  # fmt: skip


def test_positive_control_finds_exact_copies_and_fails_honestly(result):
    rows = {(row["copy"], row["strength"]): row for row in result.figures["positive_control"]["rows"]}
    exact = rows["exact", 0.0]
    assert exact["nearest_is_original"]["fraction"] == 1.0
    assert exact["criteria"]["nn_ratio"]["fraction"] == 1.0
    # Random pixels have no neighbours: a flipped copy is as far as any other item.
    assert rows["flip", 1.0]["criteria"]["nn_ratio"]["fraction"] == 0.0
    assert set(result.figures["positive_control"]["rows"][0]["criteria"]) == {
        "nn_ratio", "calibrated", "absolute", "authenticity",
    }  # fmt: skip


def test_duplicates_are_collapsed_or_a_copy_would_hide():
    training = images(40, 3)
    doubled = np.concatenate([training, training[:10]])
    found = audit(training[:5], doubled, controls=False)
    assert found.fraction("nn_ratio") == 1.0
    inputs = found.figures["inputs"]["training"]
    assert (inputs["count"], inputs["distinct"], inputs["duplicate_groups"]) == (50, 40, 10)
    assert inputs["duplicates"][0] == ["0", "40"]
    assert any("10 exact duplicates, in 10 groups" in text for text in found.figures["statement"]["warnings"])
    assert found.pairs.columns["training"] == [0, 1, 2, 3, 4]


def test_generated_equal_to_training_is_said(sets):
    training = sets[1]
    found = audit(training[np.random.default_rng(0).permutation(150)], training, controls=False)
    assert found.figures["inputs"]["generated"]["is_training_set"]
    assert any("IS the training set" in text for text in found.figures["statement"]["warnings"])
    assert found.fraction("nn_ratio") == 1.0


def test_held_out_items_inside_training_are_said(sets):
    generated, training, test = sets
    leaked = np.concatenate([test, training[:7]])
    found = audit(generated, training, leaked, controls=False)
    assert found.figures["inputs"]["held_out"]["in_training"] == 7
    assert any(
        "7 of 77 held-out items are exactly in the training set" in t for t in found.figures["statement"]["warnings"]
    )


def test_without_held_out_data_training_stands_in(sets):
    generated, training, _ = sets
    found = audit(generated, training)
    assert found.figures["inputs"]["held_out"]["origin"] == "leave-one-out"
    squared, _ = brute(training, training)
    flags = 9 * squared[:, 1] < squared[:, 2]
    assert found.criterion("nn_ratio")["held_out"] == {
        **found.criterion("nn_ratio")["held_out"], "count": int(flags.sum()), "total": 150,
    }  # fmt: skip
    gaps = []
    _, order = brute(training, training)
    for item in range(150):
        partner = order[item, 1]
        others = [int(squared[partner, at]) for at in range(150) if order[partner, at] not in (partner, item)]
        gaps.append(squared[item, 1] < others[0])
    assert found.criterion("authenticity")["held_out"]["count"] == sum(gaps)
    assert any("each compared with all the others" in t for t in found.figures["statement"]["tested"])


def test_a_threshold_that_means_nothing_on_this_data_is_said(sets):
    found = audit(*sets, controls=False, criteria=Absolute(0.5))
    warnings = found.figures["statement"]["warnings"]
    assert any("Absolute distance at 0.5 flags 100 % of held-out data too" in text for text in warnings)
    assert not any("flags" in text for text in audit(*sets, controls=False).figures["statement"]["warnings"])


def test_without_controls_and_held_out_data_there_is_no_floor(sets):
    found = audit(sets[0], sets[1], controls=False)
    assert found.figures["inputs"]["held_out"] is None
    assert "the controls were switched off" in found.figures["statement"]["tested"][1]
    assert found.figures["positive_control"] is None
    assert found.criterion("nn_ratio")["held_out"] is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("scale", "words"), [(1.0, "taken as 0 to 1"), (7.0, "range")])
def test_signals_of_floats(dtype, scale, words):
    generator = np.random.default_rng(0)
    training = (scale * generator.random((60, 33))).astype(dtype)
    generated = (scale * generator.random((9, 33))).astype(dtype)
    generated[:3] = training[:3]
    found = audit(generated, training, k=10)
    assert found.figures["inputs"]["kind"] == "signals"
    assert words in found.figures["inputs"]["units"]
    assert found.criterion("nn_ratio")["generated"]["count"] == 3
    assert found.pictures.kind == "signals"


def test_float_images_with_channels_first_equal_uint8(sets):
    generated, training, test = (one[..., None].repeat(3, -1) for one in sets)
    known = audit(generated, training, test, planted=8)
    floats = [np.moveaxis(one, -1, 1).astype(np.float64) / 127.5 - 1 for one in (generated, training, test)]
    found = audit(*floats, planted=8)
    assert "-1 to 1 are 0 to 1" in found.figures["inputs"]["units"]
    for entry, other in zip(known.figures["criteria"], found.figures["criteria"], strict=True):
        assert entry.get("generated") == other.get("generated")
    np.testing.assert_allclose(found.pairs.columns["distance"], known.pairs.columns["distance"], rtol=1e-12)
    assert np.array_equal(found.pictures.generated, known.pictures.generated)


def test_value_range_sets_the_unit(sets):
    floats = [one.astype(np.float32) for one in sets]
    found = audit(*floats, controls=False, value_range=(0, 255))
    assert found.pairs.columns["distance"] == audit(*sets, controls=False).pairs.columns["distance"]


def test_tensors_and_sources_and_names(sets):
    generated, training, _ = sets
    named = ArraySource(training, name="pixels", names=[f"picture {index}.png" for index in range(150)])
    found = audit(torch.from_numpy(generated), named, controls=False)
    assert found.pairs.columns["training_name"][0] == "picture 40.png"
    assert found.figures["inputs"]["training"]["name"] == "pixels"


def test_similarity_of_given_and_of_extracted_features(sets):
    generated, training, test = sets

    def extract(block):
        return torch.from_numpy(block.reshape(len(block), -1)[:, :16].astype(np.float32) - 128)

    given = {"generated": extract(generated), "training": extract(training), "test": extract(test)}
    by_array = audit(generated, training, test, features={name: value.numpy() for name, value in given.items()})
    by_function = audit(generated, training, test, features=extract)
    rows = given["training"].double()
    unit = rows / rows.norm(dim=1, keepdim=True)
    samples = given["generated"].double()
    known = ((samples / samples.norm(dim=1, keepdim=True)) @ unit.T).max(dim=1).values.numpy()
    for found in (by_array, by_function):
        scores = np.empty(60)
        scores[found.pairs.columns["generated"]] = found.pairs.columns["score_similarity"]
        np.testing.assert_allclose(scores, known, atol=1e-6)
        assert found.criterion("similarity")["generated"]["count"] == (known > 0.75).sum()
    assert by_function.criterion("similarity")["held_out"] == by_array.criterion("similarity")["held_out"]
    power = by_function.figures["positive_control"]["rows"][0]["criteria"]["similarity"]
    assert power["fraction"] == 1.0
    assert "similarity" not in by_array.figures["positive_control"]["rows"][0]["criteria"]


def test_result_is_strict_json_and_survives_the_disk(result, tmp_path):
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert json.loads(text)["schema"] == "memfast.audit/2"
    assert len(result.to_dict(pairs=4)["pairs"]) == 4
    result.save(tmp_path)
    loaded = AuditResult.load(tmp_path)
    assert loaded.figures == result.figures
    assert loaded.pairs == result.pairs
    assert np.array_equal(loaded.pictures.generated, result.pictures.generated)
    assert {file.name for file in tmp_path.iterdir()} == {
        "result.json", "pairs.csv", "pairs.parquet", "pictures.safetensors",
    }  # fmt: skip
    from pyarrow import parquet

    assert parquet.read_table(tmp_path / "pairs.parquet").to_pydict() == result.pairs.columns


def test_same_seed_same_result(sets, result):
    again = audit(*sets, labels=np.arange(60) % 3)
    assert without_commit(again) == without_commit(result)
    assert again.pairs == result.pairs


def test_a_killed_audit_goes_on_with_the_same_result(sets, result, tmp_path, monkeypatch):
    from memfast.auditing.search import TrainingSearch

    real, calls = TrainingSearch._knn, []

    def dies(self, samples, stage, k):
        calls.append(stage)
        if stage == "held-out":
            raise KeyboardInterrupt
        return real(self, samples, stage, k)

    monkeypatch.setattr(TrainingSearch, "_knn", dies)
    with pytest.raises(KeyboardInterrupt):
        audit(*sets, labels=np.arange(60) % 3, checkpoint=tmp_path)
    monkeypatch.setattr(TrainingSearch, "_knn", real)
    assert (tmp_path / "generated").exists()
    again = audit(*sets, labels=np.arange(60) % 3, checkpoint=tmp_path)
    assert without_commit(again) == without_commit(result)


def test_summary_and_headline(result):
    text = result.summary()
    assert re.search(r"Nearest-neighbour ratio +33\.3 %  \[22\.7 % to 45\.9 %\]  20 of 60   held-out 0 %", text)
    assert "Worst-tile distance" in text
    assert result.headline["name"] == "nn_ratio"
    assert result.fraction() == pytest.approx(1 / 3)
    assert memfast.audit is audit


def test_one_training_image():
    found = audit(images(4, 0), images(1, 1))
    assert [entry["name"] for entry in found.figures["criteria"] if entry["applicable"]] == ["absolute"]
    assert "there is only one" in found.criterion("nn_ratio")["why_not"]
    assert found.figures["inputs"]["held_out"] is None
    assert found.pairs.columns["ratio"] == [None] * 4
    assert found.headline["name"] == "absolute"
    with pytest.raises(InputError, match="one that applies to this data"):
        found.fraction("nn_ratio")


def test_two_training_images_and_one_sample(tmp_path):
    found = audit(images(1, 0), images(2, 1))
    assert found.criterion("authenticity")["applicable"]
    found.report(tmp_path)


def test_small_training_set_shrinks_the_default_k_and_says_so():
    found = audit(images(4, 0), images(20, 1), controls=False)
    assert found.figures["parameters"]["k"] == 20
    assert any("k is 20 instead of 50" in text for text in found.figures["statement"]["warnings"])
    assert "20 neighbours instead of 50" in found.criterion("calibrated")["notes"][0]


GOOD = images(10, 0)
NOT_FINITE = np.where(np.arange(640).reshape(10, 8, 8) == 200, np.nan, 0.5).astype(np.float32)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: audit(GOOD[:0], GOOD), "non-empty|at least one"),
        (lambda: audit(GOOD, GOOD[:0]), "non-empty|at least one"),
        (lambda: audit(GOOD, GOOD, k=11), "k: expected at most the 10 training items, received 11"),
        (lambda: audit(GOOD, GOOD, k=0), "k: expected a whole number of at least 1"),
        (lambda: audit(GOOD, GOOD, seed=-1), "seed: expected a whole number from 0"),
        (
            lambda: audit(images(3, 0, (8, 9)), GOOD),
            r"generated: expected items of shape \[8, 8\].*received .*\[8, 9\]",
        ),
        (lambda: audit(GOOD, GOOD, images(3, 0, (9, 8))), "test: expected items of shape"),
        (lambda: audit(GOOD, images(9, 0, (8, 8, 3))), "One is gray and one in colour: .*--mode RGB"),
        (lambda: audit(images(9, 0, (3, 8, 8)), images(9, 0, (8, 8, 3))), "The channels lie on another axis"),
        (lambda: audit(GOOD.astype(np.float32), GOOD), "expected uint8 values.*received float32.*Convert both"),
        (lambda: audit(GOOD.astype(np.int64), GOOD), "uint8"),
        (lambda: audit(NOT_FINITE, GOOD.astype(np.float32)), "generated, item 3: expected finite values, received NaN"),
        (lambda: audit(GOOD, GOOD, labels=[1, 2]), r"labels: expected 10 labels, received shape \[2\]"),
        (lambda: audit(GOOD, GOOD, labels=np.zeros(10)), "labels: expected whole numbers, received float64"),
        (lambda: audit(GOOD, GOOD, criteria=["nothing"]), "received 'nothing'"),
        (lambda: audit(GOOD, GOOD, value_range=(1, 1)), "value_range: expected"),
        (lambda: audit(GOOD, GOOD, features=3), "features: expected a mapping"),
        (lambda: audit(GOOD, GOOD, features={"generated": np.ones((10, 2))}), "arrays named generated and training"),
        (
            lambda: audit(GOOD, GOOD, features={"generated": np.ones((9, 2)), "training": np.ones((10, 2))}),
            r"features of generated: expected an array \[10, 2\], received shape \[9, 2\]",
        ),
        (lambda: audit(GOOD, GOOD).criterion("no"), "criterion: expected one of nn_ratio"),
        (lambda: AuditResult.load("/nowhere"), "expected a folder with result.json"),
    ],
)
def test_bad_input_is_named(call, text):
    with pytest.raises(InputError, match=text):
        call()


def test_criteria_can_be_given_as_objects(sets):
    strict = audit(*sets, criteria=[NnRatio(1e-9)], controls=False)
    assert strict.criterion("nn_ratio")["generated"]["count"] == 5
    assert [level["threshold"] for level in strict.criterion("nn_ratio")["levels"]] == [1e-9, 0.25, 1 / 3, 0.5]


def test_a_result_of_another_schema_is_refused(result, tmp_path):
    result.save(tmp_path)
    figures = json.loads((tmp_path / "result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps({**figures, "schema": "memfast.audit/0"}))
    with pytest.raises(
        InputError, match=r"expected schema memfast\.audit/2 \(or memfast\.audit/1\), received memfast\.audit/0"
    ):
        AuditResult.load(tmp_path)
