"""Figures per class: whose class it is, and the floor of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

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


def read_labels(name: str, given: Any, source: Source) -> np.ndarray | None:
    """Given labels, or else the source's own, int64 ``[n]``.

    Raises:
        InputError: labels of another length, or no whole numbers.
    """
    labels = source.labels if given is None else np.asarray(given)
    if labels is None:
        return None
    if labels.shape != (len(source),):
        raise InputError(name, expected=f"{len(source)} labels", received=f"shape {list(labels.shape)}")
    if labels.dtype.kind not in "iub":
        raise InputError(name, expected="whole numbers", received=str(labels.dtype))
    return labels.astype(np.int64)


def per_class(
    generated: Judged, held_out: Judged | None, training_labels: np.ndarray | None, statistics: Statistics
) -> dict[str, Any] | None:
    """By the generated samples' own labels, otherwise by those of the training items nearest to them.

    The held-out items are taken by the same rule, so that a class and its floor mean the same.

    Args:
        generated: the generated samples.
        held_out: the held-out items, or None.
        training_labels: of the training items the evidence's indices are about, or None.
        statistics: confidence, resamples, seed.
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
    return {"labels_of": origin, "classes": rows}
