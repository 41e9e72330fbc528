"""Figures per class: one numbering for the classes of all sets, whose class a sample is, and the floor of each."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from memfast.auditing.inputs import Inputs
from memfast.auditing.judging import Statistics, by_class
from memfast.criteria import Evidence, Judgement
from memfast.data import Source
from memfast.foundation.errors import InputError


@dataclass(frozen=True)
class Judged:
    """One set's evidence and what each criterion says of it.

    Attributes:
        evidence: of the set.
        judgements: by criterion's name.
        labels: of the set's items, or None.
    """

    evidence: Evidence
    judgements: Mapping[str, Judgement]
    labels: np.ndarray | None


@dataclass(frozen=True)
class Classes:
    """The labels of an audit's sets, in which one number means one class.

    Attributes:
        generated: int64 ``[n]``, of the generated samples, or None.
        training: of the training set as given, or None.
        test: of the held-out items, or None.
        names: number -> the class's name, where classes have names.
        notes: what a reader must know of labels that could not be used.
    """

    generated: np.ndarray | None
    training: np.ndarray | None
    test: np.ndarray | None
    names: Mapping[int, str]
    notes: tuple[str, ...] = ()


def read_classes(inputs: Inputs, *, generated: Any = None, training: Any = None, test: Any = None) -> Classes:
    """Given labels, or else the sources' own, brought to one numbering.

    Folders number their classes by the names they happen to hold, so classes that have names are matched by name. The
    training set's numbers hold; classes it lacks come after, and bare numbers are read as its numbers. Where it has no
    names, names that are whole numbers are read as numbers.

    Args:
        inputs: the sets.
        generated: labels of the generated samples, or None for the source's own.
        training: of the training set, likewise.
        test: of the held-out set, likewise.

    Raises:
        InputError: labels of another length, or no whole numbers.
    """
    of_training = _labelled("training_labels", training, inputs.training)
    of_generated = _labelled("labels", generated, inputs.generated)
    of_test = None if inputs.test is None else _labelled("test_labels", test, inputs.test)
    notes = []
    if of_training is None or of_training.names is None:
        of_generated, of_test = (None if one is None else one.as_numbers() for one in (of_generated, of_test))
        for name, one in (("training", of_training), ("held-out", of_test)):
            if one is not None and of_generated is not None and (one.names is None) != (of_generated.names is None):
                kinds = ("numbers", "names") if one.names is None else ("names", "numbers")
                notes.append(
                    f"The labels of the {name} set were left out: they are {kinds[0]}, and those of the generated set "
                    f"are {kinds[1]}, so nothing says which are the same class."
                )
                of_training, of_test = (None if other is one else other for other in (of_training, of_test))
    every = [one for one in (of_training, of_generated, of_test) if one is not None]
    bare = [int(one.values.max()) + 1 for one in every if one.names is None]
    numbers = {} if of_training is None else {name: at for at, name in enumerate(of_training.names or ())}
    free = max([len(numbers), *bare])
    for one in every:
        for name in one.names or ():
            if name not in numbers:
                numbers[name], free = free, free + 1
    generated, training, test = (
        None if one is None else one.renumbered(numbers) for one in (of_generated, of_training, of_test)
    )
    return Classes(generated, training, test, {number: name for name, number in numbers.items()}, tuple(notes))


def per_class(
    generated: Judged,
    held_out: Judged | None,
    training_labels: np.ndarray | None,
    statistics: Statistics,
    names: Mapping[int, str],
) -> dict[str, Any] | None:
    """By the generated samples' own labels, otherwise by those of the training items nearest to them.

    The held-out items are taken by the same rule, so that a class and its floor mean the same.

    Args:
        generated: the generated samples.
        held_out: the held-out items, or None.
        training_labels: of the training items the evidence's indices are about, or None.
        statistics: confidence, resamples, seed.
        names: of the classes that have one, by number.
    """
    labels, origin = generated.labels, "generated"
    floor_labels = None if held_out is None else held_out.labels
    if labels is None and training_labels is not None:
        labels, origin = training_labels[generated.evidence.indices[:, 0]], "nearest training item"
        floor_labels = None if held_out is None else training_labels[held_out.evidence.indices[:, 0]]
    if labels is None:
        return None
    floors = {} if held_out is None else held_out.judgements
    rows = by_class(generated.judgements, labels, floors, floor_labels, statistics)
    return {"labels_of": origin, "names": {str(number): name for number, name in names.items()}, "classes": rows}


@dataclass(frozen=True)
class _Labelled:
    """Labels of one set; with names, they are places in the list of names."""

    values: np.ndarray
    names: list[str] | None

    def as_numbers(self) -> "_Labelled":
        """Bare numbers, where every name is a whole number; otherwise the same."""
        if self.names is None or not all(re.fullmatch("0|[1-9][0-9]{0,17}", name) for name in self.names):
            return self
        return _Labelled(self.renumbered({name: int(name) for name in self.names}), None)

    def renumbered(self, numbers: Mapping[str, int]) -> np.ndarray:
        """The labels as numbers; those that are no place in the list of names (-1 for "unknown") stay."""
        if self.names is None:
            return self.values
        known = (self.values >= 0) & (self.values < len(self.names))
        places = np.array([numbers[name] for name in self.names], np.int64)
        return np.where(known, places[np.where(known, self.values, 0)], self.values)


def _labelled(name: str, given: Any, source: Source) -> _Labelled | None:
    labels = source.labels if given is None else np.asarray(given)
    if labels is None:
        return None
    if labels.shape != (len(source),):
        raise InputError(name, expected=f"{len(source)} labels", received=f"shape {list(labels.shape)}")
    if labels.dtype.kind not in "iub":
        raise InputError(name, expected="whole numbers", received=str(labels.dtype))
    names = getattr(source, "class_names", None) if given is None else None
    return _Labelled(labels.astype(np.int64), None if names is None else list(names))
