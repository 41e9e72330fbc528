"""Which canaries came back, where the samples' origin is known."""

import numpy as np
import pytest

import memfast
from memfast.criteria import wilson
from memfast.data import ArraySource
from memfast.foundation.errors import InputError
from memfast.training import Canaries


def images(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8), dtype=np.uint8)


TRAINING, KNOWN = images(60, 0), images(4, 1)
# Canary 1 comes back twice, canary 3 three times, once with a changed pixel; the rest are new or copies of other items.
SAMPLES = np.concatenate([images(30, 2), KNOWN[[1, 1, 3, 3, 3]], TRAINING[:5]])
SAMPLES[34, 0, 0] ^= 1
REPEATS = [1, 10, 10, 50]
CANARIES = Canaries(KNOWN, REPEATS)


def audit(training=TRAINING, **options):
    return memfast.audit(SAMPLES, training, criteria="nn_ratio", controls=False, **options)


@pytest.fixture(scope="module")
def result():
    return audit(canaries=CANARIES)


def test_each_repeat_count_has_its_share_and_interval(result):
    groups = {group["repeats"]: group for group in result.figures["canaries"]["groups"]}
    assert {repeats: group["canaries"] for repeats, group in groups.items()} == {1: 1, 10: 2, 50: 1}
    shares = {repeats: group["criteria"]["nn_ratio"] for repeats, group in groups.items()}
    back = {repeats: (one["came_back"]["count"], one["came_back"]["total"]) for repeats, one in shares.items()}
    samples = {repeats: (one["samples"]["count"], one["samples"]["total"]) for repeats, one in shares.items()}
    assert back == {1: (0, 1), 10: (1, 2), 50: (1, 1)}
    assert samples == {1: (0, 40), 10: (2, 40), 50: (3, 40)}
    assert shares[10]["came_back"]["wilson"] == pytest.approx(wilson(1, 2))
    assert [one["samples"]["nn_ratio"] for one in result.figures["canaries"]["each"]] == [0, 2, 0, 3]
    assert result.criterion("nn_ratio")["generated"]["count"] == 10
    assert "Of 2 canaries that were in the training set 10 times, 1 came back" in result.summary()


def test_it_is_the_same_with_the_canaries_in_the_training_set(result, tmp_path):
    CANARIES.save(tmp_path)
    wanted = result.figures["canaries"]
    assert audit(CANARIES.added_to(TRAINING)).figures["canaries"] == wanted
    assert audit(canaries=str(tmp_path)).figures["canaries"] == wanted
    copies = audit(np.concatenate([TRAINING, np.repeat(KNOWN, REPEATS, axis=0)]), canaries=CANARIES).figures["canaries"]
    assert copies["groups"] == wanted["groups"]
    assert all(one["also_in_data"] for one in copies["each"])
    assert not any(one["also_in_data"] for one in wanted["each"])


def test_items_alone_have_no_repeat_count():
    found = audit(canaries=KNOWN).figures["canaries"]
    (group,) = found["groups"]
    assert group["repeats"] is None
    assert group["criteria"]["nn_ratio"]["came_back"]["count"] == 2


def test_labels_of_the_training_set_still_fit():
    labels = np.arange(60) % 3
    given = audit(canaries=CANARIES, training_labels=labels).figures["per_class"]
    own = audit(ArraySource(TRAINING, name="t", labels=labels), canaries=CANARIES).figures["per_class"]
    assert given == own


def test_without_canaries_there_is_no_entry_and_no_section(tmp_path):
    result = audit()
    assert result.figures["canaries"] is None
    assert result.neighbors is not None
    assert "Which canaries came back" not in result.report(tmp_path).read_text()


def test_the_report_has_a_section_and_the_neighbours_are_not_handed_on(result, tmp_path):
    assert result.neighbors is None
    page = result.report(tmp_path).read_text()
    assert "Which canaries came back" in page
    assert "1 came back" in page


def test_canaries_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"canaries: expected uint8 items \(8, 8\), received uint8 items \(8, 7\)"):
        audit(canaries=KNOWN[:, :, :7])
