"""A chart of lines: curves of copies, densities, losses."""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    series: int = 1
    dashed: bool = False


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
        legend([(line.name, line.series, line.dashed) for line in thinned]) if len(thinned) > 1 else None,
        drawing,
        folded("As a table", table(heading, rows)),
        class_="chart",
    )


def legend(entries: Sequence[tuple[str, int, bool]]) -> Markup:
    """Names beside a sample of their line."""
    return tag(
        "ul",
        [
            tag("li", tag("span", "", class_=f"key s{colour(series)}" + (" dashed" if dashed else "")), name)
            for name, series, dashed in entries
        ],
        class_="legend",
    )


def _thin(line: Line, logarithmic: bool) -> Line:
    x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
    keep = np.isfinite(x) & np.isfinite(y) & ((y > 0) | (not logarithmic))
    x, y = x[keep], y[keep]
    if len(x) > MOST_POINTS:
        edges = np.linspace(0, len(x), MOST_POINTS + 1).astype(int)
        x, y = (np.add.reduceat(values, edges[:-1]) / np.diff(edges) for values in (x, y))
    return Line(line.name, x.tolist(), y.tolist(), line.series, line.dashed)


def _value_scale(lines: Sequence[Line], logarithmic: bool, from_zero: bool) -> Scale:
    values = np.concatenate([np.asarray(line.y) for line in lines])
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
    style = f"line s{colour(line.series)}" + (" dashed" if line.dashed else "")
    return tag("path", d="M" + "L".join(points), class_=style)


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
