"""Controls taken over from another audit, and approximate searches that find too few neighbours."""

import json

import numpy as np
import pytest

import memfast
from memfast.auditing import AuditResult, audit
from memfast.auditing.search import TrainingSearch
from memfast.cli.app import main
from memfast.criteria import Evidence, NnRatio
from memfast.foundation.errors import InputError


def images(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8), dtype=np.uint8)


def figures(result):
    """The figures, less the checkout's state: files may be edited while tests run."""
    return {**result.figures, "provenance": None}


@pytest.fixture
def stages(monkeypatch):
    seen = []
    search = TrainingSearch.evidence

    def noted(self, samples, stage, **options):
        seen.append(stage)
        return search(self, samples, stage, **options)

    monkeypatch.setattr(TrainingSearch, "evidence", noted)
    return seen


@pytest.mark.parametrize("test", [None, images(70, 2)], ids=["leave-one-out", "held-out"])
def test_controls_taken_over_give_the_same_result(stages, test):
    training = images(150, 0)
    first = audit(images(40, 1), training, test)
    alone = audit(training[:30], training, test)
    stages.clear()
    second = audit(training[:30], training, test, reuse=first)
    assert stages == ["generated"]
    assert figures(second) == figures(alone)
    assert second.pairs == alone.pairs


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"training": images(150, 9)}, "training set"),
        ({"test": None}, "held-out set"),
        ({"seed": 1}, "seed"),
        ({"criteria": [NnRatio(0.5)]}, "criteria"),
        ({"k": 20}, "k"),
        ({"planted": 5}, "planted"),
    ],
)
def test_controls_of_another_audit_are_refused(change, name):
    given = {"generated": images(9, 1), "training": images(150, 0), "test": images(70, 2)}
    first = audit(**given)
    with pytest.raises(InputError, match=f"with the same {name}"):
        audit(**{**given, **change}, reuse=first)


def test_controls_follow_the_given_features(tmp_path):
    sets = {"generated": images(9, 1), "training": images(50, 0), "test": images(20, 2)}
    features = {name: rows.reshape(len(rows), -1).astype(np.float32) for name, rows in sets.items()}
    first = audit(**sets, features=features)
    assert audit(**sets, features=dict(features), reuse=first).figures["criteria"] == first.figures["criteria"]
    with pytest.raises(InputError, match="with the same features"):
        audit(**sets, features={**features, "test": features["test"] + 1}, reuse=first)
    first.save(tmp_path / "out")
    with pytest.raises(InputError, match="received one that was read from files"):
        audit(**sets, features=features, reuse=AuditResult.load(tmp_path / "out"))


def test_the_command_makes_the_controls_of_several_sets_once(stages, tmp_path, capsys):
    for name, rows in (("a", images(20, 1)), ("b", images(20, 3)), ("train", images(150, 0))):
        np.save(tmp_path / f"{name}.npy", rows)
    paths = [str(tmp_path / f"{name}.npy") for name in ("a", "b", "train")]
    assert main(["audit", *paths[:2], "--training", paths[2], "--out", str(tmp_path / "out"), "--json"]) == 0
    assert sorted(stages) == ["generated", "generated", "held-out", "planted"]
    both = json.loads(capsys.readouterr().out)
    assert both["a"]["positive_control"] == both["b"]["positive_control"] is not None


def test_an_index_that_finds_too_few_neighbours_invents_no_copies():
    pytest.importorskip("faiss", reason="approximate search is faiss'")
    training, generated = images(600, 0), images(30, 1)
    index = memfast.neighbors.ApproximateIndex("IVF64,Flat", probes=1)
    assert (memfast.knn(generated, training, 50, approximate=index).indices < 0).any(), "the case does not arise"
    exact = audit(generated, training, images(40, 2))
    found = audit(generated, training, images(40, 2), approximate=index)
    assert found.figures["search"]["searched_exactly"] == 30
    assert any("30 samples too few neighbours" in text for text in found.figures["statement"]["not_proven"])
    for name in ("nn_ratio", "calibrated", "absolute"):
        assert found.fraction(name) == exact.fraction(name) == 0
        assert found.criterion(name)["held_out"] == exact.criterion(name)["held_out"]


def test_evidence_with_missing_neighbours_is_refused():
    squared = np.array([[4, 9], [4, np.iinfo(np.int64).max]])
    with pytest.raises(InputError, match="index -1, 'none found', for 1 samples"):
        Evidence(squared, np.array([[3, 5], [3, -1]]), values=4)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"planted": 0}, "planted: expected a whole number of at least 1, received 0"),
        ({"planted": -1}, "planted: expected a whole number of at least 1, received -1"),
        ({"resamples": 0}, "resamples: expected a whole number of at least 1, received 0"),
        ({"seed": 1.5}, "seed: expected a whole number from 0 to"),
        ({"seed": "x"}, "seed: expected a whole number"),
        ({"confidence": 1.5}, "confidence: expected a finite number above 0 and below 1"),
    ],
)
def test_options_of_the_statistics_are_checked_before_the_search(stages, options, text):
    with pytest.raises(InputError, match=text):
        audit(images(5, 1), images(50, 0), **options)
    assert stages == []


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(memfast.foundation.errors.OutputError, match="cannot use"):
        audit(images(5, 1), images(50, 0), controls=False).save(tmp_path / "file" / "out")


def test_the_training_set_is_passed_over_once_for_several_audits(monkeypatch):
    from memfast.auditing import opened

    generator = np.random.default_rng(9)
    generated, training, test = (generator.integers(0, 256, (40, 6, 6), dtype=np.uint8) for _ in range(3))
    training[7] = training[3]
    scanned, real = [], opened.scan
    monkeypatch.setattr(
        opened, "scan", lambda name, *more, **options: scanned.append(name) or real(name, *more, **options)
    )
    first = audit(generated, training, test)
    second = audit(training, training, test, reuse=first)
    assert scanned == ["generated", "training", "test"]  # and the second generated set is the training set itself
    assert second.figures["inputs"]["generated"]["is_training_set"]
    assert second.figures["inputs"]["training"] == first.figures["inputs"]["training"]
    assert second.figures["criteria"] == audit(training, training, test).figures["criteria"]


def test_a_low_recall_is_said_and_warned_of():
    pytest.importorskip("faiss", reason="approximate search is faiss'")
    generated, training, test = (images(count, seed) for count, seed in ((60, 1), (400, 0), (60, 2)))
    low = audit(generated, training, test, approximate="IVF16,Flat")
    recall = low.figures["search"]["recall"]["estimate"]
    assert recall < 0.9
    assert f"it found {100 * recall:.1f} % of the 50 nearest" in low.figures["statement"]["not_proven"][-1]
    assert any("found only" in sentence for sentence in low.figures["statement"]["warnings"])
    whole = audit(generated, training, test, approximate="Flat")
    assert "it found 100 % of the 50 nearest" in whole.figures["statement"]["not_proven"][-1]
    assert not any("found only" in sentence for sentence in whole.figures["statement"]["warnings"])
