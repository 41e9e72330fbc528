"""A chart of lines: curves of copies, densities, losses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from memfast.reports.charts.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Scale, Words, colour, frame, plain
from memfast.reports.markup import Markup, folded, join, table, tag

MOST_POINTS = 400
MOST_ROWS = 24


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        name: for the legend.
        x: places, ascending.
        y: values.
        series: which colour, from 1; 0 is grey.
        dashed: drawn as dashes: the floor beside a run.
        dotted: drawn as dots: what a second theory says.
        low: lower edge of a band behind the line, one value per place; None: no band.
        high: its upper edge.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    series: int = 1
    dashed: bool = False
    dotted: bool = False
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None

    @property
    def style(self) -> str:
        """The classes of its stroke."""
        return f"s{colour(self.series)}" + (" dashed" if self.dashed else " dotted" if self.dotted else "")


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    description: str = "",
    marker: tuple[float, str] | None = None,
    logarithmic: bool = False,
    from_zero: bool = True,
    x_words: Words = plain,
    y_words: Words = plain,
) -> Markup:
    """A figure with title, legend, drawing and the same figures as a folded table.

    Args:
        lines: the lines; longer ones are thinned to 400 points by means.
        title: above the drawing.
        x_label: under the axis.
        y_label: above the axis.
        description: for readers who do not see the drawing.
        marker: a place on the x axis to mark, and its words.
        logarithmic: of the y axis; values of zero and below are left out.
        from_zero: start the y axis at 0.
        x_words: writes x values.
        y_words: writes y values.
    """
    thinned = [_thin(line, logarithmic) for line in lines]
    thinned = [line for line in thinned if len(line.x)]
    if not thinned:
        return tag("figure", tag("figcaption", title), tag("p", "Nothing to draw.", class_="note"), class_="chart")
    x = Scale(min(line.x[0] for line in thinned), max(line.x[-1] for line in thinned), LEFT, WIDTH - RIGHT)
    y = _value_scale(thinned, logarithmic, from_zero)
    drawing = tag(
        "svg",
        tag("title", title),
        tag("desc", description or f"{y_label} against {x_label}: " + ", ".join(line.name for line in thinned)),
        frame(x, y, x_label, y_label, x_words, y_words),
        _marker(marker, x),
        [_band(line, x, y) for line in thinned],
        [_path(line, x, y) for line in thinned],
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=title,
    )
    rows = _rows(thinned, x_words, y_words)
    heading = [x_label, *(line.name for line in thinned)]
    return tag(
        "figure",
        tag("figcaption", title),
        legend([(line.name, line.style) for line in thinned]) if len(thinned) > 1 else None,
        drawing,
        folded("As a table", table(heading, rows)),
        class_="chart",
    )


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """Names beside a sample of their line, whose classes (``"s1 dashed"``) come second."""
    samples = [tag("li", tag("span", "", class_=f"key {style}"), name) for name, style in entries]
    return tag("ul", samples, class_="legend")


def _thin(line: Line, logarithmic: bool) -> Line:
    band = line.low is not None and line.high is not None
    columns = [np.asarray(values, np.float64) for values in (line.x, line.y, *((line.low, line.high) if band else ()))]
    keep = np.isfinite(columns).all(axis=0) & np.all([(y > 0) | (not logarithmic) for y in columns[1:]], axis=0)
    columns = [values[keep] for values in columns]
    if len(columns[0]) > MOST_POINTS:
        edges = np.linspace(0, len(columns[0]), MOST_POINTS + 1).astype(int)
        columns = [np.add.reduceat(values, edges[:-1]) / np.diff(edges) for values in columns]
    x, y, *edges_of_band = (values.tolist() for values in columns)
    low, high = edges_of_band or (None, None)
    return replace(line, x=x, y=y, low=low, high=high)


def _value_scale(lines: Sequence[Line], logarithmic: bool, from_zero: bool) -> Scale:
    values = np.concatenate([np.asarray(one) for line in lines for one in (line.y, line.low, line.high) if one])
    low, high = float(values.min()), float(values.max())
    if logarithmic:
        low, high = max(low, high * 1e-8), high * 1.2
        return Scale(low if low < high else high / 10, high, HEIGHT - BOTTOM, TOP + 14, True)
    if from_zero:
        low = min(low, 0.0)
    room = (high - low) or abs(high) or 1.0
    return Scale(low if from_zero else low - 0.05 * room, high + 0.05 * room, HEIGHT - BOTTOM, TOP + 14)


def _marker(marker: tuple[float, str] | None, x: Scale) -> Markup | None:
    if marker is None or not x.low <= marker[0] <= x.high:
        return None
    place = x(marker[0])
    right = place > (LEFT + WIDTH) / 2
    return join(
        tag("line", x1=place, x2=place, y1=TOP + 10, y2=HEIGHT - BOTTOM, class_="marker"),
        tag(
            "text", marker[1], x=place + (-5 if right else 5), y=TOP + 20,
            text_anchor="end" if right else "start", class_="marker-text",
        ),
    )  # fmt: skip


def _path(line: Line, x: Scale, y: Scale) -> Markup:
    points = [f"{x(place)} {y(value)}" for place, value in zip(line.x, line.y, strict=True)]
    if len(points) == 1:
        return tag("circle", cx=x(line.x[0]), cy=y(line.y[0]), r=4, class_=f"dot s{colour(line.series)}")
    return tag("path", d="M" + "L".join(points), class_=f"line {line.style}")


def _band(line: Line, x: Scale, y: Scale) -> Markup | None:
    if line.low is None or line.high is None or len(line.x) < 2:
        return None
    there = [f"{x(place)} {y(value)}" for place, value in zip(line.x, line.high, strict=True)]
    back = [f"{x(place)} {y(value)}" for place, value in zip(line.x, line.low, strict=True)][::-1]
    return tag("path", d="M" + "L".join(there + back) + "Z", class_=f"band s{colour(line.series)}")


def _rows(lines: Sequence[Line], x_words: Words, y_words: Words) -> list[list[str]]:
    """About 24 places, each line's value at or before it."""
    places = np.unique(np.concatenate([np.asarray(line.x) for line in lines]))
    places = places[np.unique(np.linspace(0, len(places) - 1, min(MOST_ROWS, len(places))).astype(int))]
    rows = []
    for place in places:
        cells = []
        for line in lines:
            at = int(np.searchsorted(np.asarray(line.x), place, side="right")) - 1
            cells.append(_exact(line.y[at], y_words) if at >= 0 else "")
        rows.append([_exact(place, x_words), *cells])
    return rows


def _exact(value: float, words: Words) -> str:
    return f"{value:.5g}" if words is plain else words(value)
