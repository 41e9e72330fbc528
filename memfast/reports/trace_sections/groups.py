"""How the conditions of a trace are drawn: groups by what is known of them, each with its mean curve and a band.

A page computes no result. What it takes from the trace's numbers here is what it needs to draw many conditions as one
line: their mean, and the range of their middle 80 %.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from memfast.reports.charts import Line, line_chart
from memfast.reports.markup import Markup
from memfast.results.trace import ConditionTrace, TraceFigures


class Labelled(Protocol):
    """What can be grouped: a condition of the trace, or of its sweep."""

    @property
    def name(self) -> str:
        """For legends."""

    @property
    def memorized(self) -> bool | None:
        """What is known of it."""


Member = TypeVar("Member", bound=Labelled)
Values = Sequence[float | None] | None
Series = Callable[[ConditionTrace], Values]

BAND = (0.1, 0.9)
HIGHLIGHTED = 6
NAME_LENGTH = 36
GROUPS = ((True, "memorized", 2), (False, "not memorized", 1), (None, "unlabelled", 0))
STATE = "state (0 is pure noise, the last is the finished sample)"
# Of what the network says of a state: it is not asked about the finished sample.
STEP = "state (0 is pure noise; the finished sample is left out)"


@dataclass(frozen=True)
class Group(Generic[Member]):
    """Conditions that share a line.

    Attributes:
        name: for legends.
        series: number of its colour.
        members: its conditions.
    """

    name: str
    series: int
    members: Sequence[Member]


def groups(conditions: Sequence[Member]) -> list[Group[Member]]:
    """Memorized and not memorized conditions; where none is labelled, all as one group."""
    if all(condition.memorized is None for condition in conditions):
        return [Group("all conditions", 0 if _single_out(conditions) else 1, conditions)]
    found = [
        Group(name, series, [condition for condition in conditions if condition.memorized is known])
        for known, name, series in GROUPS
    ]
    return [group for group in found if group.members]


def highlighted(trace: TraceFigures) -> list[tuple[ConditionTrace, float]]:
    """Without labels: the conditions with the largest D1, and their D1; they are drawn one by one."""
    known = [(condition, condition.d1) for condition in trace.conditions if condition.d1 is not None]
    return sorted(known, key=lambda one: -one[1])[:HIGHLIGHTED] if _single_out(trace.conditions) else []


def curves(trace: TraceFigures, series: Series) -> list[Line]:
    """One line with a band per group, and the highlighted conditions; what has no data is left out."""
    lines = [group_line(group, series) for group in groups(trace.conditions)]
    for number, (condition, _) in enumerate(highlighted(trace), 1):
        values = _floats(series(condition))
        if values is not None:
            lines.append(Line(short_name(condition), range(len(values)), values.tolist(), number))
    return [line for line in lines if line is not None]


def group_line(group: Group[Member], series: Callable[[Member], Values]) -> Line | None:
    """A group's mean with its band, over 0, 1, 2, ...; None without data."""
    rows = _rows(group, series)
    if rows is None:
        return None
    low = high = None
    if len(rows) > 1:
        filled = np.where(np.isnan(rows), _nan_mean(rows), rows)
        low, high = (np.quantile(filled, share, axis=0).tolist() for share in BAND)
    name = f"{group.name} ({len(rows):,}, mean)" if len(group.members) > 1 else short_name(group.members[0])
    return Line(name, range(rows.shape[1]), _nan_mean(rows).tolist(), group.series, low=low, high=high)


def chart(
    trace: TraceFigures, series: Series, *, extra: Sequence[Line] = (), x_label: str = STATE, **words: Any
) -> Markup | None:
    """The chart of ``curves`` over the states; None without data."""
    lines = curves(trace, series)
    return line_chart([*lines, *extra], x_label=x_label, **words) if lines else None


def mean_of(group: Group[ConditionTrace], key: str) -> float | None:
    """The mean of one number over a group's conditions; None where none has it."""
    values = [value for value in (getattr(condition, key) for condition in group.members) if value is not None]
    return float(np.mean(values)) if values else None


def short_name(condition: Labelled) -> str:
    """A condition's name, cut where it is a long prompt."""
    name = condition.name
    return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1].rstrip() + "\u2026"


def mean_curve(group: Group[Member], series: Callable[[Member], Values]) -> np.ndarray | None:
    """The mean over a group's conditions, state by state; NaN where none has a value."""
    rows = _rows(group, series)
    return None if rows is None else _nan_mean(rows)


def _single_out(conditions: Sequence[Labelled]) -> bool:
    return len(conditions) > 1 and all(condition.memorized is None for condition in conditions)


def _rows(group: Group[Member], series: Callable[[Member], Values]) -> np.ndarray | None:
    found = [values for values in (_floats(series(condition)) for condition in group.members) if values is not None]
    return np.stack(found) if found else None


def _floats(values: Sequence[float | None] | None) -> np.ndarray | None:
    found = None if values is None else np.array(values, dtype=np.float64)
    return None if found is None or not np.isfinite(found).any() else found


def _nan_mean(rows: np.ndarray) -> np.ndarray:
    count = np.isfinite(rows).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, np.nansum(rows, axis=0) / count, np.nan)
