"""The two controls of an audit: what it finds where nothing was copied, and what it finds of planted copies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from memfast.auditing.describing import describe_source, exact_copies
from memfast.auditing.examine import Examiner
from memfast.auditing.inputs import Inputs, as_images
from memfast.auditing.judging import Statistics
from memfast.auditing.plants import Plant, plants
from memfast.auditing.scan import Scan
from memfast.criteria import Criterion, Evidence
from memfast.data import ArraySource, Source
from memfast.data.subset import Subset
from memfast.foundation.errors import InputError
from memfast.neighbors.duplicates import DuplicateGroups

DEFAULT_PLANTED = 64
LARGEST_LEAVE_ONE_OUT = 1000


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
        positive: the result of `positive_control`, or None.
    """

    basis: Mapping[str, Any]
    scans: Mapping[str, Scan]
    groups: DuplicateGroups | None
    floor: Evidence | None
    held_out: dict[str, Any] | None
    own: np.ndarray | None
    positive: dict[str, Any] | None

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
    based_on: dict[str, Any], inputs: Inputs, examiner: Examiner, criteria: Sequence[Criterion], statistics: Statistics,
    *, controls: bool, planted: int,
) -> Controls:  # fmt: skip
    """Both controls: of held-out data, and of planted copies where ``controls`` are wanted."""
    floor, held_out, own = _negative_control(inputs, examiner, controls, statistics.seed)
    positive = positive_control(examiner, criteria, statistics, low=inputs.low, planted=planted) if controls else None
    sets = {"training": inputs.training} | ({} if inputs.test is None else {"test": inputs.test})
    scans = {source.content_hash(): inputs.scans[name] for name, source in sets.items()}
    return Controls(based_on, scans, examiner.groups, floor, held_out, own, positive)


def basis(
    hashes: Mapping[str, str | None], criteria: Sequence[Criterion], features: Any, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What an audit's controls follow from: content hashes, criteria, features and the other options, by name."""
    if isinstance(features, Mapping):
        given = {name: np.ascontiguousarray(features[name]) for name in ("training", "test") if name in features}
        features = {
            name: (rows.shape, str(rows.dtype), blake2b(rows.tobytes()).hexdigest()) for name, rows in given.items()
        }
    return {**hashes, "criteria": [(one.name, one.parameters()) for one in criteria], "features": features, **options}


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
    examiner: Examiner,
    criteria: Sequence[Criterion],
    statistics: Statistics,
    *,
    low: float,
    planted: int = DEFAULT_PLANTED,
) -> dict[str, Any]:
    """Plant copies of random training items and judge them like generated samples.

    Args:
        examiner: searches the training set.
        criteria: the criteria that apply.
        statistics: confidence, resamples, seed.
        low: the raw value that means 0.
        planted: how many training items are copied in each way.

    Returns:
        A dictionary with ``planted`` (how many per way) and ``rows``, one per way and strength. A row holds
        ``nearest_is_original`` (how often the nearest training item is the one that was copied) and, per criterion,
        the share of planted copies it flags: its power.
    """
    training, unit = examiner.training, examiner.unit
    generator = np.random.Generator(np.random.Philox(statistics.seed + 1))
    chosen = np.sort(generator.choice(len(training), size=min(planted, len(training)), replace=False))
    items = training.take(chosen)
    ways = plants(examiner.kind)
    made = np.concatenate([_plant(items, way, generator, low=low, unit=unit, kind=examiner.kind) for way in ways])
    evidence = examiner.evidence(ArraySource(made, name="planted copies"), "planted")
    applicable = [criterion for criterion in criteria if criterion.why_not(evidence) is None]
    judgements = [criterion.judge(evidence) for criterion in applicable]
    rows = []
    for number, way in enumerate(ways):
        here = slice(number * len(chosen), (number + 1) * len(chosen))
        rows.append(
            {
                "copy": way.name,
                "strength": way.strength,
                "words": way.words,
                "nearest_is_original": statistics.share(evidence.indices[here, 0] == chosen),
                "criteria": {
                    criterion.name: statistics.share(judgement.flags[here])
                    for criterion, judgement in zip(applicable, judgements, strict=True)
                },
            }
        )
    return {"planted": len(chosen), "rows": rows}


def _negative_control(
    inputs: Inputs, examiner: Examiner, controls: bool, seed: int
) -> tuple[Evidence | None, dict[str, Any] | None, np.ndarray | None]:
    """Evidence of held-out data, what to say about it, and the training items that stand in where none was given."""
    if inputs.test is not None:
        evidence = examiner.evidence(inputs.test, "held-out")
        described = describe_source(inputs.test, len(inputs.scans["test"].firsts))
        return evidence, {**described, "origin": "given", "in_training": exact_copies(evidence)}, None
    if not controls or examiner.different < 3:
        return None, None, None
    samples, own = leave_one_out(examiner.training, seed)
    evidence = examiner.evidence(samples, "held-out", own=own)
    described = {"name": samples.name, "count": len(samples), "distinct": len(samples)}
    return evidence, {**described, "origin": "leave-one-out", "in_training": 0}, own


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
