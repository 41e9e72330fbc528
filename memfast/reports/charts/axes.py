"""Scales and ticks of a chart."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

WIDTH = 460
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 40
TICKS = 5


@dataclass(frozen=True)
class Scale:
    """Maps data values to places in the drawing.

    Attributes:
        low: data value at ``start``.
        high: data value at ``stop``.
        start: place of ``low``.
        stop: place of ``high``.
        logarithmic: whether equal ratios take equal room.
    """

    low: float
    high: float
    start: float
    stop: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value, rounded to a tenth; values outside stay at the edge."""
        low, high, value = self._seen(self.low), self._seen(self.high), self._seen(value)
        part = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + min(max(part, 0.0), 1.0) * (self.stop - self.start), 1)

    def ticks(self) -> list[float]:
        """Round values within the range."""
        return _decades(self.low, self.high) if self.logarithmic else round_ticks(self.low, self.high)

    def _seen(self, value: float) -> float:
        return float(np.log10(max(value, 1e-300))) if self.logarithmic else value


def round_ticks(low: float, high: float, about: int = TICKS) -> list[float]:
    """Values 1, 2 or 5 times a power of ten apart.

    >>> round_ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if high <= low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(power * one for one in (1, 2, 5, 10) if power * one >= raw * 0.999)
    first = int(np.ceil(low / step - 1e-9))
    last = int(np.floor(high / step + 1e-9))
    return [round(float(number * step), 12) for number in range(first, last + 1)]


def plain(value: float) -> str:
    """A tick's text.

    >>> plain(0.2), plain(2000), plain(1e-5)
    ('0.2', '2,000', '1e-05')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def in_percent(value: float) -> str:
    """A tick's text for a fraction.

    >>> in_percent(0.25)
    '25 %'
    """
    return f"{100 * value:g} %"


Words = Callable[[float], str]


def _decades(low: float, high: float) -> list[float]:
    first, last = int(np.ceil(np.log10(low) - 1e-9)), int(np.floor(np.log10(high) + 1e-9))
    if last - first < 1:
        return [value for value in round_ticks(low, high) if value > 0]
    step = max(1, -(-(last - first) // TICKS))
    return [10.0**power for power in range(first, last + 1, step)]
