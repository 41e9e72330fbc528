"""What an audit works on: the sets opened, checked against each other and read once; their classes and canaries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from memfast.auditing.canaries import OpenedCanaries, open_canaries
from memfast.auditing.classes import Classes, read_classes
from memfast.auditing.config import AuditConfig
from memfast.auditing.ranges import Units, bring_to_one_range, check_ranges, units_of
from memfast.auditing.scan import Scan, scan
from memfast.data import Source, open_sources
from memfast.data.subset import Subset
from memfast.features.sets import CHANNELS, kind_of
from memfast.foundation.errors import InputError


@dataclass(frozen=True)
class AuditData:
    """What a caller gives to an audit beside its options; see `memfast.audit`."""

    generated: Any
    training: Any
    test: Any = None
    labels: Any = None
    training_labels: Any = None
    test_labels: Any = None
    canaries: Any = None


@dataclass(frozen=True)
class OpenedSets:
    """The sets of an audit.

    Attributes:
        generated: the generated samples.
        training: the training set, as given.
        test: the held-out set, or None.
        scans: what one pass over each set found, by the names above.
        kind: "images", "signals" or "values".
        units: what distances are measured in.
        ranges: the stated values that mean 0 and 1, by set.
        notes: what a reader must know of the sets' values.
    """

    generated: Source
    training: Source
    test: Source | None
    scans: Mapping[str, Scan]
    kind: str
    units: Units
    ranges: Mapping[str, tuple[float, float]]
    notes: tuple[str, ...] = ()

    @property
    def by_name(self) -> dict[str, Source]:
        """The sets that were given."""
        sets = {"generated": self.generated, "training": self.training, "test": self.test}
        return {name: source for name, source in sets.items() if source is not None}

    @property
    def values(self) -> int:
        """Numbers in one item."""
        return int(np.prod(self.generated.item_shape, dtype=np.int64))


@dataclass(frozen=True)
class OpenedAudit:
    """The opened sets and what was read of them.

    Attributes:
        sets: the sets.
        kept: int64, the training items that stay once exact duplicates are collapsed.
        distinct: those items.
        classes: the labels, in one numbering.
        canaries: the known items in the training set, or None.
    """

    sets: OpenedSets
    kept: np.ndarray
    distinct: Source
    classes: Classes
    canaries: OpenedCanaries | None

    @property
    def whole(self) -> bool:
        """Whether every training item that the caller gave is searched, and nothing else."""
        return len(self.kept) == len(self.sets.training) and self.canaries is None


def open_audit(
    config: AuditConfig, data: AuditData, *, known: Mapping[str, Scan] | None = None, progress: bool = False
) -> OpenedAudit:
    """Open the sets, read each once, and find duplicates, classes and canaries.

    Args:
        config: the options.
        data: the sets, their labels and the canaries.
        known: content hash -> what an earlier pass over a set of that content found; it is not read again.
        progress: show progress.

    Raises:
        InputError: sets that cannot be read or compared, or labels that do not fit.
    """
    training = data.training
    canaries = open_canaries(data.canaries, training, skip_bad=config.skip_bad, progress=progress)
    labels = data.training_labels
    if canaries is not None:
        training, labels = canaries.training, canaries.with_labels(labels)
    sets = open_sets(
        data.generated, training, data.test, ranges=config.ranges, skip_bad=config.skip_bad, strict=config.strict,
        progress=progress, known=known,
    )  # fmt: skip
    classes = read_classes(sets, generated=data.labels, training=labels, test=data.test_labels)
    kept = sets.scans["training"].firsts
    distinct = sets.training if len(kept) == len(sets.training) else Subset(sets.training, kept)
    return OpenedAudit(sets, kept, distinct, classes, canaries)


def open_sets(
    generated: Any,
    training: Any,
    test: Any = None,
    *,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    skip_bad: bool = False,
    strict: bool = False,
    progress: bool = False,
    known: Mapping[str, Scan] | None = None,
) -> OpenedSets:
    """Open the sets and refuse what cannot be compared.

    Args:
        generated: anything `memfast.data.open_source` reads.
        training: the same.
        test: the same, or None.
        ranges: set -> the values that mean 0 and 1. Without one: those that the sets were opened with; (0, 255) for
            uint8; for floats (0, 1) or (-1, 1) where the training set lies within, otherwise its own smallest and
            largest value.
        skip_bad: leave unreadable images out, and count them.
        strict: refuse sets with entries that were not read.
        progress: show progress.
        known: see `open_audit`.

    Raises:
        InputError: an empty set, another shape, dtype or range than the training set's, or values that are not finite.
    """
    sources = open_sources(generated=generated, training=training, test=test, skip_bad=skip_bad, progress=progress)
    for name, source in sources.items():
        if len(source) == 0:
            raise InputError(name, expected="at least one item", received="an empty set")
        if strict:
            _check_all_read(name, source)
    for name, source in sources.items():
        _check_shape(name, source, sources["training"])
    ranges = {**_own_ranges(sources), **(ranges or {})}
    sources = bring_to_one_range(sources, ranges)
    for name, source in sources.items():
        _check_dtype(name, source, sources["training"])
    scans = {}
    for name, source in sources.items():
        found = known.get(source.content_hash()) if known else None
        scans[name] = scan(name, source, progress=progress) if found is None else found
    notes = check_ranges(sources, scans, ranges)
    reference = sources["training"]
    return OpenedSets(
        sources["generated"], reference, sources.get("test"), scans, kind_of(reference.item_shape),
        units_of(reference, scans["training"], _unit_range(sources, ranges)), ranges, tuple(notes),
    )  # fmt: skip


def as_images(block: np.ndarray) -> np.ndarray:
    """Images ``[n, H, W]`` or ``[n, H, W, C]``, whichever way round the channels were; one channel is dropped."""
    if block.ndim == 4 and block.shape[-1] not in CHANNELS:
        block = np.moveaxis(block, 1, -1)
    return block[..., 0] if block.ndim == 4 and block.shape[-1] == 1 else block


def _own_ranges(sources: Mapping[str, Source]) -> dict[str, tuple[float, float]]:
    """The ranges that float sets were opened with, where all of them were."""
    floats = {name: source for name, source in sources.items() if source.dtype != np.uint8}
    own = {name: getattr(source, "value_range", None) for name, source in floats.items()}
    return {name: one for name, one in own.items() if one is not None} if all(own.values()) else {}


def _unit_range(sources: Mapping[str, Source], ranges: Mapping[str, tuple[float, float]]) -> tuple[float, float] | None:
    if "training" in ranges:
        return ranges["training"]
    # Bytes that were brought to the floats of another set keep their own range.
    return (0.0, 255.0) if ranges and hasattr(sources["training"], "original") else None


def _check_all_read(name: str, source: Source) -> None:
    unread = getattr(source, "not_read", ())
    if unread:
        listed = "; ".join(f"{one.count:,} {one.reason} ({', '.join(one.names)})" for one in unread)
        raise InputError(
            f"{name}, {source.name}", expected="nothing but items (strict, --strict)", received=listed,
            do="Remove these entries, or audit without strict: they are counted in the result.",
        )  # fmt: skip


def _check_shape(name: str, source: Source, reference: Source) -> None:
    ours, theirs = tuple(source.item_shape), tuple(reference.item_shape)
    if ours == theirs:
        return
    do = "Bring all sets to one size first, with the same resampling as the model's training data."
    if {len(ours), len(theirs)} == {2, 3} and ours[:2] == theirs[:2]:
        do = "One is gray and one in colour: bring both to one mode (--mode RGB, or open_source(..., mode='RGB'))."
    elif theirs in ((*ours[1:], ours[0]), (ours[-1], *ours[:-1])):
        do = "The channels lie on another axis: move them, for example with np.moveaxis(array, 1, -1)."
    raise InputError(
        name, expected=f"items of shape {list(theirs)}, as in the training set",
        received=f"items of shape {list(ours)}", do=do,
    )  # fmt: skip


def _check_dtype(name: str, source: Source, reference: Source) -> None:
    if (source.dtype == np.uint8) != (reference.dtype == np.uint8):
        raise InputError(
            name, expected=f"{reference.dtype} values, as in the training set", received=f"{source.dtype} values",
            do="Convert both to uint8 0..255, or both to floats of one range; or give value_range for each set.",
        )  # fmt: skip
