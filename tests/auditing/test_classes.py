"""Classes of several sets: one number means one class, whatever the folders hold."""

import numpy as np
import pytest
from PIL import Image

import memfast
from memfast.auditing.classes import read_classes
from memfast.auditing.opened import open_sets
from memfast.data import ArraySource
from memfast.foundation.errors import InputError

ITEMS = np.random.default_rng(3).integers(0, 256, (12, 8, 8), dtype=np.uint8)


def folder(path, classes):
    """Two images of each class, of the class's own items, in subfolders."""
    for name, first in classes.items():
        (path / name).mkdir(parents=True)
        for number in (first, first + 1):
            Image.fromarray(ITEMS[number]).save(path / name / f"{number}.png")
    return str(path)


def source(labels, names=None):
    made = ArraySource(ITEMS[: len(labels)], labels=np.array(labels))
    made.class_names = names
    return made


def classes(*sets, **labels):
    return read_classes(open_sets(*sets), **labels)


def test_folders_are_matched_by_the_names_of_their_classes(tmp_path):
    training = folder(tmp_path / "training", {"bird": 0, "cat": 2, "dog": 4, "ship": 6})
    generated = folder(tmp_path / "generated", {"cat": 2, "ship": 6, "truck": 8})
    test = folder(tmp_path / "test", {"dog": 4, "ship": 6, "truck": 10})
    result = memfast.audit(generated, training, test, criteria="absolute")
    assert [(row["generated_label"], row["training_label"]) for row in result.pairs.rows(0, 4)] == [
        (1, 1), (1, 1), (3, 3), (3, 3),
    ]  # fmt: skip
    found = result.figures["per_class"]
    assert found["names"] == {"0": "bird", "1": "cat", "2": "dog", "3": "ship", "4": "truck"}
    rows = {found["names"][str(row["label"])]: row for row in found["classes"]}
    assert rows["cat"]["held_out"] is None  # the test set holds no cats
    # The test's ships are training items; its trucks are not.
    assert [rows[name]["held_out"]["absolute"]["count"] for name in ("ship", "truck")] == [2, 0]
    assert [rows[name]["criteria"]["absolute"]["count"] for name in ("cat", "ship", "truck")] == [2, 2, 0]


def test_numbers_are_those_of_the_training_sets_classes():
    found = classes(source([0, 2, 3]), source([0, 1], ["cat", "dog"]), source([1, 0, -1], ["dog", "eel"]))
    assert found.generated.tolist() == [0, 2, 3]
    assert found.training.tolist() == [0, 1]
    assert found.test.tolist() == [4, 1, -1]  # 2 and 3 are taken by numbers that the names do not explain
    assert (dict(found.names), found.notes) == ({0: "cat", 1: "dog", 4: "eel"}, ())


def test_names_that_are_numbers_meet_numbers():
    found = classes(source([0, 1, 1], ["10", "2"]), source([10, 2, 0]))
    assert found.generated.tolist() == [10, 2, 2]
    assert found.training.tolist() == [10, 2, 0]
    assert dict(found.names) == {}


def test_two_folders_of_numbers_are_matched_by_name_too():
    found = classes(source([0, 1], ["3", "7"]), source([0, 1, 2], ["1", "3", "7"]))
    assert found.generated.tolist() == [1, 2]
    assert dict(found.names) == {0: "1", 1: "3", 2: "7"}


@pytest.mark.parametrize(
    ("generated", "training", "test", "left"),
    [
        (source([0, 1], ["a", "b"]), source([5, 6]), source([0], ["b"]), ("training",)),
        (source([0, 1]), source([5, 6]), source([0], ["b"]), ("held-out",)),
        (source([0, 1], ["a", "b"]), source([5, 6]), source([0]), ("training", "held-out")),
    ],
    ids=["training", "test", "both"],
)
def test_names_and_numbers_that_cannot_be_matched_are_said(generated, training, test, left):
    found = classes(generated, training, test)
    assert found.generated.tolist() == [0, 1]
    assert (found.training is None, found.test is None) == ("training" in left, "held-out" in left)
    assert [note.split("labels of the ")[1].split(" set")[0] for note in found.notes] == list(left)


def test_given_labels_are_numbers_whatever_the_source_says():
    found = classes(source([0, 1], ["x", "y"]), source([0, 1], ["a", "b"]), generated=[1, 1])
    assert found.generated.tolist() == [1, 1]
    with pytest.raises(InputError, match="test_labels: expected 2 labels, received shape"):
        classes(source([0, 1]), source([0, 1]), source([0, 1]), test=[1])
