"""Evidence and criteria become figures: counts, intervals, floors, curves, classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from memfast.criteria import Criterion, Evidence, Judgement, difference, share
from memfast.foundation.arguments import finite_number, whole_number

MATCHED_FALSE_POSITIVES = 0.01
SMALLEST_FLOOR = 100


@dataclass(frozen=True)
class Statistics:
    """How uncertainty is computed: confidence of the intervals, bootstrap resamples, seed."""

    confidence: float
    resamples: int
    seed: int

    def __post_init__(self) -> None:
        whole_number("seed", self.seed, least=0, greatest=2**63 - 1)
        whole_number("resamples", self.resamples, least=1)
        finite_number("confidence", self.confidence, above=0, below=1)

    def share(self, flags: np.ndarray) -> dict[str, Any]:
        """Count, total, fraction and intervals of some flags."""
        return share(int(flags.sum()), len(flags), confidence=self.confidence, resamples=self.resamples, seed=self.seed)


def judge(
    criterion: Criterion, generated: Evidence, held_out: Evidence | None, statistics: Statistics
) -> tuple[dict[str, Any], Judgement | None, Judgement | None]:
    """One criterion's entry in the result, and its judgements of both sets (None where it cannot apply)."""
    entry: dict[str, Any] = {
        "name": criterion.name,
        "title": criterion.title,
        "definition": criterion.definition,
        "source": criterion.source,
        "copies_are_low": criterion.copies_are_low,
        "threshold": criterion.threshold,
        "parameters": criterion.parameters(),
    }
    why_not = criterion.why_not(generated)
    entry["applicable"], entry["why_not"] = why_not is None, why_not
    if why_not is not None:
        return entry, None, None
    judgement = criterion.judge(generated)
    floor = None
    if held_out is not None and criterion.why_not(held_out) is None:
        floor = criterion.judge(held_out)
    entry["notes"] = list(judgement.notes)
    entry["generated"] = statistics.share(judgement.flags)
    entry["generated"]["distinct_training_items"] = len(np.unique(judgement.partners[judgement.flags]))
    entry["held_out"] = None if floor is None else statistics.share(floor.flags)
    entry["excess"] = None if floor is None else _excess(judgement.flags, floor.flags, statistics)
    entry["levels"] = [
        _level(criterion, level, (generated, judgement), None if floor is None else (held_out, floor), statistics)
        for level in criterion.levels
    ]
    entry["curve"] = _curve(criterion, generated, judgement, held_out, floor)
    entry["matched"] = None if floor is None else _matched(criterion, judgement, floor, statistics)
    return entry, judgement, floor


def by_class(
    judgements: Mapping[str, Judgement],
    labels: np.ndarray,
    floors: Mapping[str, Judgement],
    floor_labels: np.ndarray | None,
    statistics: Statistics,
) -> list[dict[str, Any]]:
    """The figures of every class: how many samples, each criterion's share, and the same of held-out items.

    ``held_out`` is None where the held-out items have no labels, or none of this class.
    """
    rows = []
    for label in np.unique(labels):
        here = labels == label
        there = np.zeros(0, bool) if floor_labels is None else floor_labels == label
        rows.append(
            {
                "label": int(label),
                "total": int(here.sum()),
                "criteria": {name: statistics.share(one.flags[here]) for name, one in judgements.items()},
                "held_out": {name: statistics.share(one.flags[there]) for name, one in floors.items()}
                if there.any()
                else None,
            }
        )
    return rows


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Minimum, 1, 5, 25, 50, 75, 95 % and maximum."""
    steps = (0, 1, 5, 25, 50, 75, 95, 100)
    return {f"{step}%": float(value) for step, value in zip(steps, np.percentile(values, steps), strict=True)}


def _excess(flags: np.ndarray, floor: np.ndarray, statistics: Statistics) -> dict[str, Any]:
    counts = int(flags.sum()), len(flags), int(floor.sum()), len(floor)
    return {
        "difference": counts[0] / counts[1] - counts[2] / counts[3],
        "newcombe": list(difference(*counts, statistics.confidence)),
    }


def _level(
    criterion: Criterion,
    threshold: float,
    generated: tuple[Evidence, Judgement],
    held_out: tuple[Evidence | None, Judgement] | None,
    statistics: Statistics,
) -> dict[str, Any]:
    entry: dict[str, Any] = {"threshold": threshold, "held_out": None}
    entry["generated"] = statistics.share(criterion.flags(generated[0], generated[1].scores, threshold))
    if held_out is not None and held_out[0] is not None:
        entry["held_out"] = statistics.share(criterion.flags(held_out[0], held_out[1].scores, threshold))
    return entry


def _curve(
    criterion: Criterion,
    generated: Evidence,
    judgement: Judgement,
    held_out: Evidence | None,
    floor: Judgement | None,
) -> dict[str, Any]:
    curve: dict[str, Any] = {"thresholds": criterion.grid.tolist(), "held_out": None}
    curve["generated"] = (criterion.curve(generated, judgement) / len(generated)).tolist()
    if floor is not None and held_out is not None:
        curve["held_out"] = (criterion.curve(held_out, floor) / len(held_out)).tolist()
    return curve


def _matched(
    criterion: Criterion, judgement: Judgement, floor: Judgement, statistics: Statistics
) -> dict[str, Any] | None:
    """The share of generated samples beyond a score that at most 1 % of held-out items pass; None for small floors."""
    if len(floor.scores) < SMALLEST_FLOOR:
        return None
    low = criterion.copies_are_low
    rate = MATCHED_FALSE_POSITIVES if low else 1 - MATCHED_FALSE_POSITIVES
    threshold = float(np.quantile(floor.scores, rate, method="lower" if low else "higher"))
    flags, held_out = (one.scores < threshold if low else one.scores > threshold for one in (judgement, floor))
    return {
        "held_out_fraction": float(held_out.mean()),
        "threshold": threshold,
        "generated": statistics.share(flags),
    }
