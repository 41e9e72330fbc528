"""Holding the memorized fraction at a target by moving where the model learns."""

from dataclasses import dataclass, replace
from typing import Any

from memfast.foundation.errors import InputError
from memfast.objective import DenoisingObjective
from memfast.schedules import Schedule
from memfast.timesteps import ConfidenceInterval
from memfast.timesteps.changing import Plan


@dataclass(frozen=True)
class Control:
    """The rule: after each audit, unless the fraction's interval holds the target, the confidence interval's mean moves

    ``mean += stride * T * clip((fraction - target) / target, -1, 1)``

    and stays within ``least * T`` and ``greatest * T``; its width stays. Above the target the mean moves to later,
    noisier timesteps, below it to earlier ones.

    It can slow or speed up what is learned from here on; it removes nothing. A network that copies already keeps
    copying for as long as its low-noise knowledge lasts, so a fraction far above the target falls only as fast as the
    network forgets: begin from a late mean. A young network copies nothing, so the mean runs to ``least`` before the
    fraction rises, and the target is overshot at first. With few samples per audit the fraction's interval is wide and
    the rule seldom moves.

    Attributes:
        target: the wanted fraction, above 0, below 1.
        stride: the largest move, as a share of the schedule.
        least: the earliest mean, as a share of the schedule.
        greatest: the latest mean, as a share of the schedule.
    """

    target: float
    stride: float = 0.1
    least: float = 0.0
    greatest: float = 1.2

    def __post_init__(self) -> None:
        if not (0 < self.target < 1 and self.stride > 0 and self.least < self.greatest):
            received = f"target={self.target}, stride={self.stride}, least={self.least}, greatest={self.greatest}"
            expected = "0 < target < 1, stride > 0 and least < greatest"
            raise InputError("control", expected=expected, received=received)

    def move(self, mean: float, total: int, fraction: float, interval: tuple[float, float]) -> float:
        """The new mean.

        >>> Control(target=0.02).move(500.0, 1000, fraction=0.05, interval=(0.03, 0.08))
        600.0
        """
        if interval[0] <= self.target <= interval[1]:
            return mean
        error = max(-1.0, min(1.0, (fraction - self.target) / self.target))
        return max(self.least * total, min(self.greatest * total, mean + self.stride * total * error))


class Steering:
    """An objective whose confidence interval moves while it trains.

    The interval's past is a ``Plan``, whose thresholds keep their length, so that a compiled step is kept too.

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
        self.objective = DenoisingObjective.from_dict({**objective.to_dict(), "timesteps": self._plan()})

    @property
    def mean(self) -> float:
        """The interval's mean now."""
        return self._stages[-1][1]

    def steer(self, step: int, fraction: float, interval: tuple[float, float]) -> None:
        """Move the mean, from the next step on."""
        moved = self.control.move(self.mean, self._total, fraction, interval)
        if moved != self.mean:
            self._stages.append((step, moved))
            self.objective.density = self._plan()

    def state(self) -> list[list[float]]:
        """The moves so far, as plain values."""
        return [[step, mean] for step, mean in self._stages]

    def load(self, stages: Any) -> None:
        """Take back ``state``."""
        self._stages = [(int(step), float(mean)) for step, mean in stages]
        self.objective.density = self._plan()

    def _plan(self) -> Plan:
        shifted = []
        for step, mean in self._stages:
            move = mean - self._first.mu
            shifted.append((step, replace(self._first, low=self._first.low + move, high=self._first.high + move)))
        return Plan(tuple(shifted))
