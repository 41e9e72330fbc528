"""A chart of points: one path per set, so that thousands stay small and fast."""

from collections.abc import Sequence
from dataclasses import dataclass

from memfast.reports.charts.axes import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    colour,
    frame,
    plain,
)
from memfast.reports.markup import Markup, tag

ROOM = 0.04
FEW = 200
ARM = 2


@dataclass(frozen=True)
class Points:
    """One set.

    Attributes:
        name: for the legend.
        places: pairs of coordinates.
        series: which colour, from 1; 0 is grey.
        crosses: drawn as crosses in the colour of text: held-out data.
    """

    name: str
    places: Sequence[Sequence[float]]
    series: int = 1
    crosses: bool = False


def scatter_chart(sets: Sequence[Points], *, title: str, x_label: str, y_label: str) -> Markup:
    """A figure with title, legend and points; later sets lie over earlier ones.

    Args:
        sets: the sets, at least one of them with points.
        title: above the drawing.
        x_label: under the axis.
        y_label: above the axis.
    """
    sets = [one for one in sets if len(one.places)]
    x = _scale([place[0] for one in sets for place in one.places], LEFT, WIDTH - RIGHT)
    y = _scale([place[1] for one in sets for place in one.places], HEIGHT - BOTTOM, TOP + 14)
    words = ", ".join(f"{len(one.places):,} of {one.name}" for one in sets)
    drawing = tag(
        "svg",
        tag("title", title),
        tag("desc", f"Points on {x_label} and {y_label}: {words}"),
        frame(x, y, x_label, y_label, plain, plain),
        [tag("path", d=_path(one, x, y), class_=f"points {_style(one)}") for one in sets],
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=title,
    )
    entries = [tag("li", _key(one), f"{one.name} ({len(one.places):,})") for one in sets]
    return tag("figure", tag("figcaption", title), tag("ul", entries, class_="legend"), drawing, class_="chart")


def _scale(values: Sequence[float], start: float, stop: float) -> Scale:
    low, high = min(values), max(values)
    room = ROOM * (high - low) or 1.0
    return Scale(low - room, high + room, start, stop)


def _path(one: Points, x: Scale, y: Scale) -> str:
    if one.crosses:
        return "".join(
            f"M{x(place[0]) - ARM:g} {y(place[1]):g}h{2 * ARM}m{-ARM} {-ARM}v{2 * ARM}" for place in one.places
        )
    return "".join(f"M{x(place[0]):g} {y(place[1]):g}h0" for place in one.places)


def _style(one: Points) -> str:
    if one.crosses:
        return "crosses ink"
    return f"s{colour(one.series)}" + (" few" if one.series and len(one.places) <= FEW else "")


def _key(one: Points) -> Markup:
    if one.crosses:
        return tag("span", "+", class_="key cross ink")
    return tag("span", "", class_=f"key point s{colour(one.series)}")
