"""The two controls of an audit: what it finds where nothing was copied, and what it finds of planted copies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from memfast.auditing.config import AuditConfig, Statistics
from memfast.auditing.describing import describe_held_out
from memfast.auditing.judging import Judged
from memfast.auditing.near_duplicates import near_basis
from memfast.auditing.opened import OpenedAudit, as_images
from memfast.auditing.plants import Plant, plants
from memfast.auditing.scan import Scan
from memfast.auditing.search import TrainingSearch, joined
from memfast.criteria import Criterion, Evidence
from memfast.data import ArraySource, Source
from memfast.data.subset import Subset
from memfast.foundation.errors import InputError
from memfast.neighbors.duplicates import DuplicateGroups
from memfast.results import HeldOutInput, PlantedCopies, PositiveControl

LARGEST_LEAVE_ONE_OUT = 1000
# Planted copies are made and searched so many bytes at a time.
PLANTED_BYTES = 1 << 28


@dataclass(frozen=True)
class Controls:
    """Both controls of an audit. They say nothing of the generated set, so audits that differ only in it share them.

    Attributes:
        basis: everything that they follow from, by name.
        scans: content hash -> what one pass over the set found, of the training and the held-out set.
        groups: of near-duplicates among the different training items, or None.
        floor: evidence of the held-out items, or None.
        held_out: what the result says about those.
        own: int64, the training items that stood in for held-out ones, or None.
        positive: what was found of planted copies, or None.
    """

    basis: Mapping[str, Any]
    scans: Mapping[str, Scan]
    groups: DuplicateGroups | None
    floor: Evidence | None
    held_out: HeldOutInput | None
    own: np.ndarray | None
    positive: PositiveControl | None

    def check(self, basis: Mapping[str, Any]) -> None:
        """Raise unless they follow from the same.

        Raises:
            InputError: something differs; it is named.
        """
        for name, value in basis.items():
            if self.basis.get(name) != value:
                raise InputError(
                    "reuse", expected=f"the result of an audit with the same {name}",
                    received="one with another", do="Leave reuse out, or repeat that audit's options.",
                )  # fmt: skip


def make_controls(
    basis: Mapping[str, Any], config: AuditConfig, opened: OpenedAudit, search: TrainingSearch
) -> Controls:
    """Both controls: of held-out data, and of planted copies where controls are wanted."""
    sets = opened.sets
    floor, held_out, own = _negative_control(config, opened, search)
    positive = None
    if config.controls:
        positive = positive_control(
            search, config.chosen, config.statistics, low=sets.units.low, planted=config.planted
        )
    scans = {source.content_hash(): sets.scans[name] for name, source in sets.by_name.items() if name != "generated"}
    return Controls(basis, scans, search.groups, floor, held_out, own, positive)


def controls_basis(config: AuditConfig, opened: OpenedAudit) -> dict[str, Any]:
    """What an audit's controls follow from: content hashes, criteria, features and the other options, by name."""
    features, sets = config.features, opened.sets
    if isinstance(features, Mapping):
        given = {name: np.ascontiguousarray(features[name]) for name in ("training", "test") if name in features}
        features = {
            name: (rows.shape, str(rows.dtype), blake2b(rows.tobytes()).hexdigest()) for name, rows in given.items()
        }
    return {
        "training set": sets.training.content_hash(),
        "held-out set": None if sets.test is None else sets.test.content_hash(),
        "criteria": [(one.name, one.parameters()) for one in config.chosen],
        "features": features,
        "k": config.k, "value range": (sets.units.low, sets.units.unit), "controls": config.controls,
        "planted": config.planted, "confidence": config.confidence, "resamples": config.resamples,
        "seed": config.seed, "approximate": config.approximate, "near-duplicates": near_basis(config.near_duplicates),
        "extraction": None if config.extraction is None else dict(config.extraction),
    }  # fmt: skip


def leave_one_out(training: Source, seed: int, largest: int = LARGEST_LEAVE_ONE_OUT) -> tuple[Source, np.ndarray]:
    """A random part of the training set as samples, and which items they are: a floor where no held-out set was given.

    Each item is later compared with all the others. It answers the same question as held-out data would, if the
    training set has no near-duplicates; where it has, the floor is too high.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    own = np.sort(generator.choice(len(training), size=min(largest, len(training)), replace=False))
    samples = Subset(training, own)
    samples.name = "training, each item against the others"
    return samples, own


def positive_control(
    search: TrainingSearch, criteria: Sequence[Criterion], statistics: Statistics, *, low: float, planted: int
) -> PositiveControl:
    """Plant copies of random training items and judge them like generated samples.

    Args:
        search: of the training set.
        criteria: the criteria that apply.
        statistics: confidence, resamples, seed.
        low: the raw value that means 0.
        planted: how many training items are copied in each way.

    Returns:
        One row per way and strength, with how often the nearest training item is the one that was copied and, per
        criterion, the share of planted copies it flags: its power.
    """
    generator = np.random.Generator(np.random.Philox(statistics.seed + 1))
    training = search.training
    chosen = np.sort(generator.choice(len(training), size=min(planted, len(training)), replace=False))
    ways = plants(search.kind)
    evidence = _planted_evidence(search, chosen, ways, generator, low)
    judgements = Judged.by(criteria, evidence).judgements
    rows = []
    for number, way in enumerate(ways):
        here = np.arange(number * len(chosen), (number + 1) * len(chosen))
        shares = {}
        for name, judgement in judgements.items():
            judged = here if judgement.judged is None else here[judgement.judged[here]]
            shares[name] = statistics.share(judgement.flags[judged if len(judged) else here])
        found = statistics.share(evidence.indices[here, 0] == chosen)
        rows.append(PlantedCopies(way.name, way.strength, way.words, found, shares))
    return PositiveControl(len(chosen), tuple(rows))


def _planted_evidence(
    search: TrainingSearch, chosen: np.ndarray, ways: Sequence[Plant], generator: np.random.Generator, low: float
) -> Evidence:
    """The evidence of every planted copy, way by way; large copies are made and searched a part at a time."""
    training = search.training
    # Copies are made in float64, and a few of them exist at once.
    item = 8 * int(np.prod(training.item_shape, dtype=np.int64))
    step = max(1, PLANTED_BYTES // (4 * item))
    parts: list[Evidence] = []
    held: list[np.ndarray] = []

    def examine() -> None:
        stage = "planted" + (f"-{len(parts)}" if parts else "")
        parts.append(search.evidence(ArraySource(np.concatenate(held), name="planted copies"), stage))
        held.clear()

    for way in ways:
        for start in range(0, len(chosen), step):
            items = training.take(chosen[start : start + step])
            if held and sum(part.nbytes for part in held) + items.nbytes > PLANTED_BYTES:
                examine()
            held.append(_plant(items, way, generator, low=low, unit=search.unit, kind=search.kind))
    examine()
    return joined(parts)


def _negative_control(
    config: AuditConfig, opened: OpenedAudit, search: TrainingSearch
) -> tuple[Evidence | None, HeldOutInput | None, np.ndarray | None]:
    """Evidence of held-out data, what to say about it, and the training items that stand in where none was given."""
    sets = opened.sets
    if sets.test is not None:
        evidence = search.evidence(sets.test, "held-out")
        return evidence, describe_held_out(sets, evidence), None
    if not config.controls or search.different < 3:
        return None, None, None
    samples, own = leave_one_out(search.training, config.seed)
    evidence = search.evidence(samples, "held-out", own=own)
    described = HeldOutInput(samples.name, len(samples), len(samples), origin="leave-one-out", in_training=0)
    return evidence, described, own


def _plant(
    items: np.ndarray, way: Plant, generator: np.random.Generator, *, low: float, unit: float, kind: str
) -> np.ndarray:
    """Planted copies in the items' own shape and dtype; what leaves the range of a pixel is clipped."""
    seen = as_images(items) if kind == "images" else items
    scaled = (seen.astype(np.float64) - low) / unit
    copies = way.make(scaled, kind, generator)
    if kind == "images":
        copies = np.clip(copies, 0.0, 1.0)
    raw = copies * unit + low
    raw = np.rint(raw) if items.dtype == np.uint8 else raw
    if seen.shape != items.shape:
        raw = raw.reshape(items.shape) if seen.ndim < items.ndim else np.moveaxis(raw, -1, 1)
    return raw.astype(items.dtype)
