"""Evidence and criteria become figures: shares of copies, floors, curves, and the same per class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from memfast.auditing.config import Statistics
from memfast.criteria import Criterion, Evidence, Judgement
from memfast.foundation.proportions import Proportion, difference
from memfast.results import (
    ClassResult,
    ClassResults,
    CopyShare,
    CriterionResult,
    Curve,
    Excess,
    LevelShares,
    MatchedThreshold,
)

MATCHED_FALSE_POSITIVES = 0.01
SMALLEST_FLOOR = 100
QUANTILES = (0, 1, 5, 25, 50, 75, 95, 100)


@dataclass(frozen=True)
class Judged:
    """One set's evidence and what each criterion says of it.

    Attributes:
        evidence: of the set.
        judgements: by the criterion's name, of those that apply.
    """

    evidence: Evidence
    judgements: Mapping[str, Judgement] = field(default_factory=dict)

    @classmethod
    def by(cls, criteria: Sequence[Criterion], evidence: Evidence) -> "Judged":
        """Judge a set by every criterion that applies to it."""
        judgements = {one.name: one.judge(evidence) for one in criteria if one.why_not(evidence) is None}
        return cls(evidence, judgements)


def criterion_result(
    criterion: Criterion, generated: Judged, held_out: Judged | None, statistics: Statistics
) -> CriterionResult:
    """One criterion's figures of the generated samples, beside those of held-out items."""
    not_applied = CriterionResult(
        name=criterion.name,
        title=criterion.title,
        definition=criterion.definition,
        source=criterion.source,
        copies_are_low=criterion.copies_are_low,
        threshold=criterion.threshold,
        parameters=criterion.parameters(),
        applicable=False,
        why_not=criterion.why_not(generated.evidence),
        high_by_nature=criterion.high_by_nature,
    )
    judgement = generated.judgements.get(criterion.name)
    if judgement is None:
        return not_applied
    side = generated.evidence, judgement
    floor = None if held_out is None else held_out.judgements.get(criterion.name)
    below = None if held_out is None or floor is None else (held_out.evidence, floor)
    share = statistics.share(judgement.of_judged(judgement.flags))
    return replace(
        not_applied,
        applicable=True,
        notes=judgement.notes,
        generated=CopyShare(**vars(share), distinct_training_items=len(np.unique(judgement.partners[judgement.flags]))),
        held_out=None if floor is None else statistics.share(floor.of_judged(floor.flags)),
        excess=None if floor is None else _excess(judgement, floor, statistics),
        levels=tuple(_level(criterion, level, side, below, statistics) for level in criterion.levels),
        curve=_curve(criterion, side, below),
        matched=None if floor is None else _matched(criterion, judgement, floor, statistics),
    )


def per_class(
    generated: Judged,
    held_out: Judged | None,
    labels: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None],
    names: Mapping[int, str],
    statistics: Statistics,
) -> ClassResults | None:
    """By the generated samples' own labels, otherwise by those of the training items nearest to them.

    The held-out items are taken by the same rule, so that a class and its floor mean the same.

    Args:
        generated: the generated samples.
        held_out: the held-out items, or None.
        labels: of the generated samples, the held-out items and the training items that the evidence's indices are
            about; each may be None.
        names: of the classes that have one, by number.
        statistics: confidence, resamples, seed.
    """
    own, floor_labels, of_training = labels
    origin = "generated"
    if own is None and of_training is not None:
        own, origin = of_training[generated.evidence.indices[:, 0]], "nearest training item"
        floor_labels = None if held_out is None else of_training[held_out.evidence.indices[:, 0]]
    if own is None:
        return None
    floors = {} if held_out is None else held_out.judgements
    rows = []
    for label in np.unique(own):
        here = own == label
        there = np.zeros(0, bool) if floor_labels is None or held_out is None else floor_labels == label
        rows.append(
            ClassResult(
                int(label),
                int(here.sum()),
                {name: _share_within(one, here, statistics) for name, one in generated.judgements.items()},
                {name: _share_within(one, there, statistics) for name, one in floors.items()} if there.any() else None,
            )
        )
    return ClassResults(origin, {str(number): name for number, name in names.items()}, tuple(rows))


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Minimum, 1, 5, 25, 50, 75, 95 % and maximum."""
    return {f"{step}%": float(value) for step, value in zip(QUANTILES, np.percentile(values, QUANTILES), strict=True)}


def _share_within(judgement: Judgement, here: np.ndarray, statistics: Statistics) -> Proportion:
    judged = here if judgement.judged is None else here & judgement.judged
    # Of a class whose samples could not be judged nothing is flagged.
    return statistics.share(judgement.flags[judged if judged.any() else here])


def _excess(judgement: Judgement, floor: Judgement, statistics: Statistics) -> Excess:
    counts = int(judgement.flags.sum()), judgement.total, int(floor.flags.sum()), floor.total
    return Excess(counts[0] / counts[1] - counts[2] / counts[3], difference(*counts, statistics.confidence))


def _level(
    criterion: Criterion,
    threshold: float,
    generated: tuple[Evidence, Judgement],
    held_out: tuple[Evidence, Judgement] | None,
    statistics: Statistics,
) -> LevelShares:
    def share(side: tuple[Evidence, Judgement]) -> Proportion:
        flags = criterion.flags(side[0], side[1].scores, threshold)
        return statistics.share(side[1].of_judged(flags))

    return LevelShares(threshold, share(generated), None if held_out is None else share(held_out))


def _curve(
    criterion: Criterion, generated: tuple[Evidence, Judgement], held_out: tuple[Evidence, Judgement] | None
) -> Curve:
    def shares(side: tuple[Evidence, Judgement]) -> tuple[float, ...]:
        return tuple((criterion.curve(*side) / side[1].total).tolist())

    return Curve(tuple(criterion.grid.tolist()), shares(generated), None if held_out is None else shares(held_out))


def _matched(
    criterion: Criterion, judgement: Judgement, floor: Judgement, statistics: Statistics
) -> MatchedThreshold | None:
    """The share of generated samples beyond a score that at most 1 % of held-out items pass; None for small floors."""
    if floor.total < SMALLEST_FLOOR:
        return None
    low = criterion.copies_are_low
    rate = MATCHED_FALSE_POSITIVES if low else 1 - MATCHED_FALSE_POSITIVES
    scores, floors = (one.of_judged(one.scores) for one in (judgement, floor))
    threshold = float(np.quantile(floors, rate, method="lower" if low else "higher"))
    beyond, held_out = (one < threshold if low else one > threshold for one in (scores, floors))
    return MatchedThreshold(float(held_out.mean()), threshold, statistics.share(beyond))
