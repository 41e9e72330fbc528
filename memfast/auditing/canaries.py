"""Canaries in an audit: which of the known items that were added to the training set came back."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from memfast.auditing.judging import Statistics
from memfast.auditing.scan import Scan
from memfast.criteria import Judgement
from memfast.data import Source
from memfast.data.canaries import REPEATS_FILE, Canaries, WithCanaries

LISTED = 100


def open_canaries(given: Any) -> tuple[Canaries, bool]:
    """The canaries, and whether it is known how often each was in the training set.

    Args:
        given: a ``memfast.training.Canaries``, a run's folder that holds some, or items.
    """
    if isinstance(given, Canaries):
        return given, True
    if isinstance(given, str | os.PathLike) and (Path(given) / REPEATS_FILE).is_file():
        return Canaries.load(given), True
    return Canaries(given, 1), False


def add_canaries(training: Source, canaries: Canaries, labels: Any) -> tuple[WithCanaries, Any]:
    """The training set with each canary once more, where a copy of it is then found, and labels that fit.

    Args:
        training: the training set, with the canaries or without.
        canaries: the canaries.
        labels: given labels of the training set, or None.
    """
    more = Canaries(canaries.items, 1).added_to(training)
    if labels is not None:
        own = canaries.items.labels
        labels = np.concatenate([np.asarray(labels), np.zeros(len(canaries), np.int64) if own is None else own])
    return more, labels


def came_back(
    training: WithCanaries,
    canaries: Canaries,
    known: bool,
    found: Scan,
    judgements: Mapping[str, Judgement],
    statistics: Statistics,
) -> dict[str, Any]:
    """Which canaries came back: per repeat count, and one by one.

    Args:
        training: the training set that holds them.
        canaries: the canaries, with how often each was trained on.
        known: whether that is known.
        found: what one pass over ``training`` found.
        judgements: of the generated samples, by criterion.
        statistics: of the intervals.

    Returns:
        A dictionary with ``count``; ``groups``, one per repeat count: ``repeats`` (None: not known), ``canaries``, and
        by criterion the shares ``came_back`` (of the canaries: copied by a sample at least) and ``samples`` (of the
        samples: copies of one of them); and ``each``, the first 100: name, repeats, whether it is also an item of the
        data, and by criterion the number of its copies.
    """
    kept = found.firsts
    first_of = {member: group[0] for group in found.groups for member in group}
    places = np.array([first_of.get(int(index), int(index)) for index in training.first], dtype=np.int64)
    own = places < len(training) - int(training.canaries.repeats.sum())
    copied = {name: np.where(one.flags, kept[one.partners], -1) for name, one in judgements.items()}
    counts = {name: (one[:, None] == places).sum(axis=0) for name, one in copied.items()}
    repeats = canaries.repeats if known else np.zeros(len(canaries), np.int64)
    groups = []
    for count in np.unique(repeats):
        here = repeats == count
        shares = {
            name: {
                "came_back": statistics.share(counts[name][here] > 0),
                "samples": statistics.share(np.isin(copied[name], places[here])),
            }
            for name in judgements
        }
        groups.append({"repeats": int(count) if known else None, "canaries": int(here.sum()), "criteria": shares})
    each = [
        {
            "canary": canaries.items.item_name(index), "repeats": int(repeats[index]) if known else None,
            "also_in_data": bool(own[index]), "samples": {name: int(one[index]) for name, one in counts.items()},
        }
        for index in range(min(len(canaries), LISTED))
    ]  # fmt: skip
    return {"count": len(canaries), "groups": groups, "each": each}
