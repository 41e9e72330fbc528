"""What an evaluation gives for each number."""

from dataclasses import dataclass, field
from typing import Any

from memfast.foundation.values import plain


@dataclass(frozen=True)
class MetricResult:
    """One number and what is needed to read it.

    Attributes:
        name: the value's name.
        value: the number; NaN where it could not be computed, and then ``reason`` says why.
        interval: its 95 % interval, or None where none is offered.
        better: which way its authors call better, ``lower``, ``higher`` or ``none``.
        copying: which way it moves when training samples are copied.
        low: the least it can be.
        high: the most it can be.
        metric: the metric it belongs to.
        summary: the metric in one line.
        source: where the definition comes from.
        floor: the same number for the held-out set in the place of the generated one, or None without one.
        per_class: label -> the mean over that class's generated samples, where labels were given.
        details: what the method adds.
        seconds: time spent on the metric, its shared searches apart.
        reason: why there is no value; None where there is one.
        floor_reason: why there is no floor although there is a held-out set; None otherwise.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    better: str
    copying: str
    low: float
    high: float
    metric: str
    summary: str
    source: str
    floor: float | None = None
    per_class: dict[int, float] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    reason: str | None = None
    floor_reason: str | None = None

    @property
    def computed(self) -> bool:
        """Whether there is a value."""
        return self.reason is None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and None for what is not finite: ready for strict JSON."""
        return plain(self)
