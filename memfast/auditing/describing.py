"""What a result says about the sets of an audit."""

from dataclasses import replace
from typing import Any

from memfast.auditing.opened import OpenedAudit, OpenedSets
from memfast.auditing.ranges import Rescaled, raw_range
from memfast.criteria import Evidence
from memfast.data import Source
from memfast.foundation.proportions import Interval
from memfast.foundation.values import plain
from memfast.neighbors.duplicates import DuplicateGroups
from memfast.results import GeneratedInput, HeldOutInput, NearDuplicates, TrainingInput, Unread

LISTED_GROUPS, LISTED_MEMBERS = 100, 100


def describe_generated(sets: OpenedSets, evidence: Evidence) -> GeneratedInput:
    """The generated set, and how much of it is in the others."""
    digests = sets.scans["generated"].digests
    in_held_out = 0 if sets.test is None else len(_common(digests, sets.scans["test"].digests))
    return GeneratedInput(
        **_describe(sets, "generated"),
        exact_copies=exact_copies(evidence),
        is_training_set=sorted(digests) == sorted(sets.scans["training"].digests),
        in_held_out=in_held_out,
    )


def describe_training(opened: OpenedAudit, near: DuplicateGroups | None) -> TrainingInput:
    """The training set, its exact duplicates and its near-duplicates."""
    training, groups = opened.sets.training, opened.sets.scans["training"].groups
    return TrainingInput(
        **_describe(opened.sets, "training"),
        duplicate_groups=len(groups),
        duplicates=tuple(tuple(training.item_name(index) for index in group) for group in groups[:LISTED_GROUPS]),
        near_duplicates=None if near is None else _describe_groups(near, opened.distinct),
    )


def describe_held_out(sets: OpenedSets, evidence: Evidence) -> HeldOutInput:
    """The held-out set that was given, and how much of it is in the others."""
    return HeldOutInput(**_describe(sets, "test"), origin="given", in_training=exact_copies(evidence))


def beside_generated(held_out: HeldOutInput | None, sets: OpenedSets) -> HeldOutInput | None:
    """The held-out set's description, and whether it is the generated set."""
    if held_out is None or sets.test is None:
        return held_out
    same = sorted(sets.scans["test"].digests) == sorted(sets.scans["generated"].digests)
    return replace(held_out, is_generated_set=same)


def exact_copies(evidence: Evidence) -> int:
    """How many samples equal a training item in every value."""
    return int((evidence.squared_distances[:, 0] == 0).sum())


def _describe(sets: OpenedSets, name: str) -> dict[str, Any]:
    """Name, size, shape, range, hash and what was left out."""
    source, found = sets.by_name[name], sets.scans[name]
    low, high = raw_range(source, found)
    raw = source.source if isinstance(source, Rescaled) else source
    own = getattr(source, "own_range", None) or (sets.units.low, sets.units.low + sets.units.unit)
    return {
        "name": source.name,
        "count": len(source),
        "distinct": len(found.firsts),
        "item_shape": tuple(source.item_shape),
        "dtype": str(raw.dtype),
        "sha256": raw.content_hash(),
        "conversion": plain(getattr(source, "conversion", None)),
        "skipped": tuple((str(item), str(reason)) for item, reason in source.skipped),
        "not_read": unread(source),
        "low": low,
        "high": high,
        "value_range": Interval(*own),
    }


def unread(source: Source) -> tuple[Unread, ...]:
    """Every entry of a set that is no item of it, counted by reason."""
    return tuple(
        Unread(str(one.reason), int(one.count), tuple(map(str, one.names))) for one in getattr(source, "not_read", ())
    )


def _common(first: Any, second: Any) -> list[bytes]:
    known = set(second)
    return [digest for digest in first if digest in known]


def _describe_groups(groups: DuplicateGroups, items: Source) -> NearDuplicates:
    """How many groups of two or more there are, the items in them, and names in the first groups."""
    several = groups.groups
    sizes = [len(group) for group in several]
    listed = tuple(
        tuple(items.item_name(int(one)) for one in group[:LISTED_MEMBERS]) for group in several[:LISTED_GROUPS]
    )
    return NearDuplicates(len(several), sum(sizes), max(sizes, default=1), listed)
