"""Holding the memorized fraction at a target by moving where the model learns."""

from dataclasses import dataclass, replace
from typing import Any

from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.objective import DenoisingObjective
from memfast.schedules import Schedule
from memfast.timesteps import ConfidenceInterval
from memfast.timesteps.combined import DensitySchedule


@dataclass(frozen=True)
class Control:
    """The rule: after each audit the confidence interval's mean moves by where the memorized fraction is heading

    ``heading = fraction + lead * (fraction - fraction before)``

    ``mean += stride * T * clip((heading - target) / target, -1, 1)``

    and its width stays. Above the target the mean moves to later,
    noisier timesteps; below it to earlier ones, by no more than ``caution`` of a stride. It rests while the fraction's
    interval, moved along with the heading, holds the target.

    A network shows what it was taught hundreds of steps later. Without ``lead`` the rule would still move earlier while
    the fraction already rises, and without ``caution`` it would be at its earliest bound before a young network copies
    anything; both end in twice the target.

    The interval stays inside 1..T unless it began outside: beyond, the density loses its shape (with the default tails
    it becomes uniform), and a later mean trains low noise more often, not less. Other bounds for the mean are
    ``least * T`` and ``greatest * T``.

    It can slow or speed up what is learned from here on; it removes nothing. A network that copies already keeps
    copying for as long as its low-noise knowledge lasts, so a fraction far above the target falls only as fast as the
    network forgets: begin from a late mean. With few samples per audit the fraction's interval is wide and the rule
    seldom moves.

    Attributes:
        target: the wanted fraction, above 0, below 1.
        stride: the largest move, as a share of the schedule.
        least: the earliest mean, as a share of the schedule; None: half the interval's width.
        greatest: the latest mean, as a share of the schedule; None: the end less half the width.
        lead: how many audits ahead the fraction is carried on by its last change; 0 judges it as it is.
        caution: the largest move to earlier timesteps, as a share of ``stride``; above 0, at most 1.
    """

    target: float
    stride: float = 0.1
    least: float | None = None
    greatest: float | None = None
    lead: float = 3.0
    caution: float = 0.25

    def __post_init__(self) -> None:
        finite_number("control target", self.target, above=0, below=1)
        finite_number("control stride", self.stride, above=0)
        finite_number("control lead", self.lead, least=0)
        finite_number("control caution", self.caution, above=0, greatest=1)
        least = None if self.least is None else finite_number("control least", self.least)
        if self.greatest is not None:
            finite_number("control greatest", self.greatest, above=least)

    def move(
        self, mean: float, total: int, fraction: float, interval: tuple[float, float], before: float | None = None
    ) -> float:
        """The new mean, before any bounds.

        Args:
            mean: the mean now.
            total: the schedule's length T.
            fraction: of this audit.
            interval: its confidence interval.
            before: the fraction of the audit before, or None at the first.

        >>> Control(target=0.02).move(500.0, 1000, fraction=0.05, interval=(0.03, 0.08))
        600.0
        >>> Control(target=0.02).move(500.0, 1000, fraction=0.0, interval=(0.0, 0.01), before=0.0)
        475.0
        """
        change = 0.0 if before is None else self.lead * (fraction - before)
        if interval[0] + change <= self.target <= interval[1] + change:
            return mean
        error = max(-1.0, min(1.0, (fraction + change - self.target) / self.target))
        stride = self.stride if error > 0 else self.stride * self.caution
        return mean + stride * total * error

    def bounds(self, first: float, width: float, total: int) -> tuple[float, float]:
        """The earliest and the latest mean of an interval that began at mean ``first``.

        >>> Control(target=0.02).bounds(800.0, 200.0, 1000)
        (100.0, 900.0)
        """
        least = width / 2 if self.least is None else self.least * total
        greatest = total - width / 2 if self.greatest is None else self.greatest * total
        return min(least, first), max(greatest, first)


class Steering:
    """An objective whose confidence interval moves while it trains.

    The interval's past is a ``DensitySchedule``: its thresholds keep their length, so that a compiled step is kept too.

    Args:
        control: the rule.
        objective: learns on a ``ConfidenceInterval`` over a schedule of timesteps.

    Raises:
        InputError: it learns elsewhere.
    """

    def __init__(self, control: Control, objective: DenoisingObjective) -> None:
        where = objective.density
        if not isinstance(where, ConfidenceInterval) or not isinstance(objective.schedule, Schedule):
            raise InputError(
                "control", expected="an objective on a ConfidenceInterval over a schedule of timesteps",
                received=repr(where), do="Pass timesteps=ConfidenceInterval.from_mean_width(...).",
            )  # fmt: skip
        self.control, self._first, self._stages = control, where, [(0, where.mu)]
        self._total = len(objective.schedule)
        self._bounds = control.bounds(where.mu, where.high - where.low, self._total)
        self._before: float | None = None
        self.objective = DenoisingObjective.from_dict({**objective.to_dict(), "timesteps": self._plan()})

    @property
    def mean(self) -> float:
        """The interval's mean now."""
        return self._stages[-1][1]

    def steer(self, step: int, fraction: float, interval: tuple[float, float]) -> None:
        """Move the mean, from the next step on."""
        least, greatest = self._bounds
        moved = self.control.move(self.mean, self._total, fraction, interval, self._before)
        moved = max(least, min(greatest, moved))
        self._before = fraction
        if moved != self.mean:
            self._stages.append((step, moved))
            self.objective.density = self._plan()

    def state(self) -> dict[str, Any]:
        """The moves so far and the last fraction, as plain values."""
        return {"moves": [[step, mean] for step, mean in self._stages], "before": self._before}

    def load(self, state: dict[str, Any]) -> None:
        """Take back ``state``."""
        self._stages = [(int(step), float(mean)) for step, mean in state["moves"]]
        self._before = state["before"]
        self.objective.density = self._plan()

    def _plan(self) -> DensitySchedule:
        shifted = []
        for step, mean in self._stages:
            move = mean - self._first.mu
            shifted.append((step, replace(self._first, low=self._first.low + move, high=self._first.high + move)))
        return DensitySchedule(tuple(shifted))
