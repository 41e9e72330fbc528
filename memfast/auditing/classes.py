"""Classes: one numbering for the classes of all sets."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from memfast.data import Source
from memfast.foundation.errors import InputError

LARGEST = 2**63 - 1


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


class _Sets(Protocol):
    """The sets of an audit."""

    @property
    def generated(self) -> Source: ...
    @property
    def training(self) -> Source: ...
    @property
    def test(self) -> Source | None: ...


def read_classes(sets: _Sets, *, generated: Any = None, training: Any = None, test: Any = None) -> Classes:
    """Given labels, or else the sources' own, brought to one numbering.

    Folders number their classes by the names they happen to hold, so classes that have names are matched by name. The
    training set's numbers hold; classes it lacks come after, and bare numbers are read as its numbers. Where it has no
    names, names that are whole numbers are read as numbers.

    Args:
        sets: the generated, the training and the held-out set.
        generated: labels of the generated samples, or None for the source's own.
        training: of the training set, likewise.
        test: of the held-out set, likewise.

    Raises:
        InputError: labels of another length, or no whole numbers.
    """
    of_training = _labelled("training_labels", training, sets.training)
    of_generated = _labelled("labels", generated, sets.generated)
    of_test = None if sets.test is None else _labelled("test_labels", test, sets.test)
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
    if labels.dtype.kind == "u" and len(labels) and labels.max() > LARGEST:
        raise InputError(name, expected="whole numbers of 64 bits with a sign", received=str(labels.max()))
    names = getattr(source, "class_names", None) if given is None else None
    return _Labelled(labels.astype(np.int64), None if names is None else list(names))
