"""Canaries in an audit: which of the known items that were added to the training set came back."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memfast.auditing.config import Statistics
from memfast.auditing.scan import Scan
from memfast.criteria import Judgement
from memfast.data import open_source
from memfast.data.canaries import REPEATS_FILE, Canaries, WithCanaries
from memfast.results import CanaryGroup, CanaryResult, CanaryResults, CanaryShares

LISTED = 100


@dataclass(frozen=True)
class OpenedCanaries:
    """Known items in the training set.

    Attributes:
        canaries: the items, with how often each was trained on.
        repeats_known: whether that is known.
        training: the training set that holds them.
        added: whether the audit put them there, once each.
    """

    canaries: Canaries
    repeats_known: bool
    training: WithCanaries
    added: bool

    def with_labels(self, labels: Any) -> Any:
        """Given labels of the training set, and the added canaries' own behind them; None stays None."""
        if labels is None or not self.added:
            return labels
        own = self.canaries.items.labels
        return np.concatenate([np.asarray(labels), np.zeros(len(self.canaries), np.int64) if own is None else own])


def open_canaries(
    given: Any, training: Any, *, skip_bad: bool = False, progress: bool = False
) -> OpenedCanaries | None:
    """The canaries, in a training set that holds them; None where there are none.

    Args:
        given: a ``memfast.training.Canaries``, a run's folder that holds some, items, or None.
        training: the training set, with the canaries or without: each is added once, and a copy is then found there.
        skip_bad: leave unreadable images of the training set out.
        progress: show progress.
    """
    if given is None:
        return OpenedCanaries(training.canaries, True, training, False) if isinstance(training, WithCanaries) else None
    if isinstance(given, Canaries):
        canaries, known = given, True
    elif isinstance(given, str | os.PathLike) and (Path(given) / REPEATS_FILE).is_file():
        canaries, known = Canaries.load(given), True
    else:
        canaries, known = Canaries(given, 1), False
    source = open_source(training, skip_bad=skip_bad, name="training", progress=progress)
    return OpenedCanaries(canaries, known, Canaries(canaries.items, 1).added_to(source), True)


def came_back(
    opened: OpenedCanaries, found: Scan, judgements: Mapping[str, Judgement], statistics: Statistics
) -> CanaryResults:
    """Which canaries came back: per repeat count, and one by one.

    Args:
        opened: the canaries and the training set that holds them.
        found: what one pass over that training set found.
        judgements: of the generated samples, by criterion.
        statistics: of the intervals.
    """
    canaries, training = opened.canaries, opened.training
    kept = found.firsts
    first_of = {member: group[0] for group in found.groups for member in group}
    places = np.array([first_of.get(int(index), int(index)) for index in training.first], dtype=np.int64)
    own = places < len(training) - int(training.canaries.repeats.sum())
    copied = {name: np.where(one.flags, kept[one.partners], -1) for name, one in judgements.items()}
    counts = {name: (one[:, None] == places).sum(axis=0) for name, one in copied.items()}
    repeats = canaries.repeats if opened.repeats_known else np.zeros(len(canaries), np.int64)
    groups = []
    for count in np.unique(repeats):
        here = repeats == count
        shares = {
            name: CanaryShares(
                statistics.share(counts[name][here] > 0), statistics.share(np.isin(copied[name], places[here]))
            )
            for name in judgements
        }
        groups.append(CanaryGroup(int(count) if opened.repeats_known else None, int(here.sum()), shares))
    each = [
        CanaryResult(
            canaries.items.item_name(index), int(repeats[index]) if opened.repeats_known else None, bool(own[index]),
            {name: int(one[index]) for name, one in counts.items()},
        )
        for index in range(min(len(canaries), LISTED))
    ]  # fmt: skip
    return CanaryResults(len(canaries), tuple(groups), tuple(each))
