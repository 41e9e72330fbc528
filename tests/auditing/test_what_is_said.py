"""What an audit must not pass over: entries that were not read, sets that overlap, criteria that cannot apply."""

from dataclasses import dataclass

import numpy as np
import pytest

import memfast
from memfast.auditing import AuditResult
from memfast.criteria import Criterion, Judgement
from memfast.data import ArraySource
from memfast.foundation.errors import InputError
from memfast.reports import render


def images(count, seed, shape=(8, 8)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


TRAINING, GENERATED, TEST = images(60, 0), images(20, 1), images(30, 2)


@dataclass(frozen=True)
class NotRead:
    reason: str
    count: int
    names: tuple[str, ...]


def source(items, *unread):
    made = ArraySource(items, name="a folder")
    made.not_read = unread
    return made


LINKS, TEXTS = NotRead("broken links", 3, ("a.png", "b.png")), NotRead(".txt files", 1, ("notes.txt",))


def test_entries_that_were_not_read_stand_in_result_statement_summary_and_report(tmp_path):
    found = memfast.audit(source(GENERATED, LINKS), source(TRAINING, LINKS, TEXTS), controls=False)
    assert found.figures["inputs"]["training"]["not_read"] == [
        {"reason": "broken links", "count": 3, "names": ["a.png", "b.png"]},
        {"reason": ".txt files", "count": 1, "names": ["notes.txt"]},
    ]
    sentence = (
        "4 entries of the training set were not read: 3 broken links (a.png, b.png, ...); 1 .txt files (notes.txt). "
        "Copies of them cannot be found."
    )
    for text in (found.summary(), *found.figures["statement"]["warnings"][1:2]):
        assert sentence in text
    page = render([found.report_run("x")])
    assert "Training: 4 entries were not read" in page
    found.save(tmp_path)
    assert AuditResult.load(tmp_path).found == found.found


def test_strict_refuses_them():
    with pytest.raises(InputError, match=r"training, a folder: expected nothing but items .* 3 broken links \(a.png"):
        memfast.audit(GENERATED, source(TRAINING, LINKS), strict=True)
    assert memfast.audit(GENERATED, source(TRAINING), strict=True, controls=False).figures["inputs"]


@pytest.mark.parametrize("controls", [True, False])
def test_held_out_data_that_are_the_generated_set_are_warned_of(controls):
    shuffled = GENERATED[::-1].copy()
    first = memfast.audit(images(9, 5), TRAINING, shuffled, controls=controls)
    found = memfast.audit(GENERATED, TRAINING, shuffled, controls=controls)
    again = memfast.audit(GENERATED, TRAINING, shuffled, controls=controls, reuse=first)
    for one, expected in ((first, False), (found, True), (again, True)):
        warned = any("held-out set IS the generated set" in text for text in one.figures["statement"]["warnings"])
        assert warned is expected is one.figures["inputs"]["held_out"]["is_generated_set"]


def test_samples_that_are_held_out_items_are_counted():
    mixed = np.concatenate([GENERATED, TEST[:4]])
    found = memfast.audit(mixed, TRAINING, TEST, controls=False)
    assert found.figures["inputs"]["generated"]["in_held_out"] == 4
    assert any(
        "4 generated samples equal a held-out item in every value" in text
        for text in found.figures["statement"]["warnings"]
    )


@pytest.mark.parametrize(
    ("required", "options", "why"),
    [
        ("similarity", {}, "no features were given"),
        ("absolute_tiles", {}, "it is for images of 64 pixels"),
        ("nn_ratio", {"training": TRAINING[:1]}, "there is only one"),
        ("authenticity", {"training": TRAINING[:1]}, "there is only one training item"),
    ],
)
def test_a_required_criterion_that_cannot_apply_is_an_error_before_the_search(monkeypatch, required, options, why):
    from memfast.auditing.search import TrainingSearch

    monkeypatch.setattr(TrainingSearch, "evidence", None)
    with pytest.raises(InputError, match=f"criterion {required}: expected a required criterion that applies .*{why}"):
        memfast.audit(GENERATED, options.get("training", TRAINING), require=required)


def test_required_criteria_that_apply_change_nothing():
    large = images(20, 4, (64, 64))
    found = memfast.audit(large[:5], large, require=["absolute_tiles", "similarity"], features="pixels", controls=False)
    assert found.fraction("absolute_tiles") == found.fraction("similarity") == 1
    with pytest.raises(InputError, match="require: expected criteria that the audit applies, received 'absolute'"):
        memfast.audit(GENERATED, TRAINING, criteria="nn_ratio", require="absolute")


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_images_of_zeros_are_left_out_of_similarity_and_said(dtype):
    generated, training, test = (one.astype(dtype) for one in (GENERATED, TRAINING, TEST))
    whole = memfast.audit(generated, training, test, features="pixels", criteria=["nn_ratio", "similarity"], planted=8)
    for one in (generated, training, test):
        one[3] = 0
    options = {"features": "pixels", "criteria": ["similarity", "nn_ratio"], "planted": 60, "value_range": (0, 255)}
    found = memfast.audit(generated, training, test, labels=np.arange(20) % 5, **options)
    entry = found.criterion("similarity")
    assert entry["generated"]["total"] == 19
    assert entry["held_out"]["total"] == 29
    assert "1 sample left out: all features are zero" in entry["notes"][0]
    assert found.criterion("nn_ratio")["generated"]["total"] == 20
    scores = dict(zip(found.pairs.columns["generated"], found.pairs.columns["score_similarity"], strict=True))
    assert scores.pop(3) is None
    known = dict(zip(whole.pairs.columns["generated"], whole.pairs.columns["score_similarity"], strict=True))
    rows, items = (one.reshape(len(one), -1).astype(np.float64) for one in (generated, np.delete(training, 3, axis=0)))
    cosines = rows @ items.T / np.linalg.norm(items, axis=1)
    for index, score in scores.items():
        assert score == pytest.approx(cosines[index].max() / np.linalg.norm(rows[index]), abs=1e-6)
    assert len(known) == 20
    exact = found.figures["positive_control"]["rows"][0]
    assert exact["criteria"]["similarity"]["total"] == 59
    assert exact["criteria"]["similarity"]["fraction"] == 1
    assert json_round_trip(found)


def test_similarity_does_not_apply_where_no_sample_has_a_direction():
    found = memfast.audit(np.zeros((3, 8, 8), np.uint8), TRAINING, features="pixels", controls=False)
    assert "all zero" in found.criterion("similarity")["why_not"]
    found = memfast.audit(GENERATED, np.zeros((4, 8, 8), np.uint8), features="pixels", controls=False)
    assert not found.criterion("similarity")["applicable"]


def test_leave_one_out_with_an_image_of_zeros_and_near_duplicates():
    training = TRAINING.copy()
    training[5] = 0
    training[9] = training[8]
    training[9, 0, 0] ^= 1
    found = memfast.audit(GENERATED, training, features="pixels", planted=4, near_duplicates=0.01)
    assert found.criterion("similarity")["held_out"]["total"] == 59
    assert found.criterion("similarity")["generated"]["total"] == 20


class Brightness(Criterion):
    """A criterion of somebody's own: it is high by nature, two items can hide a copy, and it reads neighbour gaps."""

    name, title, definition, source = "brightness", "Brightness", "distance < 10", "nobody"
    needs, high_by_nature, hidden_by_duplicates = ("neighbour_gaps",), True, True
    threshold, levels = 10.0, (10.0,)

    @property
    def grid(self):
        return np.array([1.0, 10.0])

    def why_not(self, evidence):
        return None if evidence.neighbour_gaps is not None else "no gaps"

    def judge(self, evidence):
        scores = evidence.rms()
        return Judgement(scores, scores < 0, evidence.indices[:, 0])


def test_an_audit_follows_what_a_criterion_declares():
    close = np.repeat(TRAINING[:1], 2, axis=0)
    close[1, 0, 0] ^= 1
    found = memfast.audit(TRAINING[:1], np.concatenate([TRAINING[1:], close]), criteria=[Brightness()], controls=False)
    assert found.criterion("brightness")["applicable"]
    assert any("which the brightness does not call a copy" in note for note in found.figures["notes"])
    assert found.figures["criteria"][0]["high_by_nature"]


def json_round_trip(found):
    return AuditResult(found.figures, found.pairs).found == found.found
