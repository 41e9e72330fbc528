"""Scales, ticks, colours and the frame of a chart."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from memfast.reports.markup import Markup, join, tag

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 60, 14, 12, 40
TICKS = 5
LETTER = 8
SERIES = 6


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


Words = Callable[[float], str]


def colour(series: int) -> int:
    """The number of a series' colour: 1 to 6, round and round; 0 is grey."""
    return (series - 1) % SERIES + 1 if series else 0


def frame(x: Scale, y: Scale, x_label: str, y_label: str, x_words: Words, y_words: Words) -> Markup:
    """Grid lines, ticks and the names of both axes."""
    parts = []
    for tick in y.ticks():
        place = y(tick)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=place, y2=place, class_="grid"))
        parts.append(tag("text", y_words(tick), x=LEFT - 6, y=place + 4, text_anchor="end"))
    for tick in x.ticks():
        words, place = x_words(tick), x(tick)
        ends = place + len(words) * LETTER / 2 > WIDTH
        anchor = {"x": WIDTH if ends else place, "text_anchor": "end" if ends else "middle"}
        parts.append(tag("text", words, y=HEIGHT - BOTTOM + 16, **anchor))
    bottom = HEIGHT - BOTTOM
    return join(
        parts,
        tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=bottom, y2=bottom, class_="axis"),
        tag("text", x_label, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 6, text_anchor="middle", class_="label"),
        tag("text", y_label, x=2, y=TOP, class_="label"),
    )


def _decades(low: float, high: float) -> list[float]:
    first, last = int(np.ceil(np.log10(low) - 1e-9)), int(np.floor(np.log10(high) + 1e-9))
    if last - first < 1:
        return [value for value in round_ticks(low, high) if value > 0]
    step = max(1, -(-(last - first) // TICKS))
    return [10.0**power for power in range(first, last + 1, step)]
