"""A chart of fractions with their intervals: a dot and a whisker each, the held-out floor beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memfast.foundation.proportions import Interval, Proportion
from memfast.foundation.values import in_percent, percent, percent_range
from memfast.reports.charts.axes import Scale, colour
from memfast.reports.markup import Markup, join, tag

SIDE, WIDTH = 18, 380
HEAD, DOT_STEP, GROUP_GAP, FOOT = 20, 17, 10, 24
# A longer name of a group would leave the drawing; it is whole in a tooltip.
LETTERS = 44


@dataclass(frozen=True)
class Dot:
    """One fraction: name, share, colour (0 is grey), hollow for a floor. Plain values are read into a `Proportion`."""

    name: str
    share: Proportion
    series: int = 1
    hollow: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.share, Mapping):
            ends = [self.share.get(name, self.share["wilson"]) for name in ("wilson", "clopper_pearson", "bootstrap")]
            counts = (self.share[name] for name in ("count", "total", "fraction"))
            object.__setattr__(self, "share", Proportion(*counts, *(Interval(*one) for one in ends)))


def dot_chart(
    groups: Sequence[tuple[str, Sequence[Dot]]], *, title: str, show_title: bool = True, largest: float | None = None
) -> Markup:
    """Groups of dots, one row each, on one axis in per cent.

    Args:
        groups: a name and its dots.
        title: of the figure.
        show_title: whether it is printed, or only read out.
        largest: end of the axis; None: the largest end of an interval.
    """
    if largest is None:
        largest = max((dot.share.wilson[1] for _, dots in groups for dot in dots), default=0.0)
    x = Scale(0.0, min(1.0, max(largest * 1.05, 0.01)), SIDE, WIDTH - 62)
    parts, place = [], 4.0
    for name, dots in groups:
        if name:
            place += HEAD
            shown = name if len(name) <= LETTERS else name[: LETTERS - 1] + "\u2026"
            parts.append(tag("text", tag("title", name), shown, x=SIDE, y=place - 5, class_="label"))
        for dot in dots:
            parts.append(_row(dot, x, place + DOT_STEP / 2 - 2))
            place += DOT_STEP
        place += GROUP_GAP
    height = round(place + FOOT)
    grid = [
        join(
            tag("line", x1=x(tick), x2=x(tick), y1=6, y2=height - FOOT, class_="grid"),
            tag("text", in_percent(tick), x=x(tick), y=height - 8, text_anchor="middle"),
        )
        for tick in x.ticks()
    ]
    words = "; ".join(
        f"{name}, {dot.name}: {percent(dot.share.fraction)} ({percent_range(dot.share.wilson)})"
        for name, dots in groups
        for dot in dots
    )
    drawing = tag(
        "svg", tag("title", title), tag("desc", words), grid, parts,
        viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=title,
    )  # fmt: skip
    return tag("figure", tag("figcaption", title) if show_title else None, drawing, class_="chart")


def _row(dot: Dot, x: Scale, y: float) -> Markup:
    low, high = dot.share.wilson
    series = f"s{colour(dot.series)}"
    at = x(dot.share.fraction)
    return tag(
        "g",
        tag("title", f"{dot.name}: {dot.share.count} of {dot.share.total}, {percent_range(dot.share.wilson)}"),
        tag("line", x1=x(low), x2=x(high), y1=y, y2=y, class_=f"whisker {series}"),
        tag("circle", cx=at, cy=y, r=4.5, class_=("ring " if dot.hollow else "dot ") + series),
        tag("text", percent(dot.share.fraction), x=WIDTH - 4, y=y + 4, text_anchor="end", class_="value"),
    )
