"""What guidance does to the same conditions: the sweep over its scale."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from memfast.reports.charts import Line, line_chart
from memfast.reports.markup import Markup, join, tag
from memfast.reports.trace_sections.groups import group_line, groups
from memfast.results.trace import SweepEntry, TraceFigures

WORDS = (
    "The same conditions and seeds under other guidance scales. The overestimation factor is how far the first "
    "estimate goes from the mean of the data towards the target, and beyond it: a network that knows the target by "
    "its condition, and nothing of it without, gives exactly the guidance scale (dashed). Means over the "
    "conditions; shaded: their middle 80\u00a0%."
)
CHARTS = (
    ("overestimation", "Overestimation by the first estimate", "factor", False),
    ("early_loss", "Loss in the first fifth of the steps", "squared error, logarithmic", True),
    ("d1", "D1", "D1", False),
    ("d2", "D2", "D2", False),
    ("similarity", "Similarity of the finished samples", "similarity", False),
)


@dataclass(frozen=True)
class SweptCondition:
    """One condition's measure over the guidance scales."""

    name: str
    memorized: bool | None
    values: Sequence[float | None]


def guidance(trace: TraceFigures) -> Markup | None:
    """One chart per measure over the guidance scale."""
    sweep = sorted(trace.guidance_sweep or (), key=lambda entry: entry.guidance)
    if not sweep:
        return None
    scales = [float(entry.guidance) for entry in sweep]
    charts = []
    for key, title, label, logarithmic in CHARTS:
        lines = _lines(sweep, scales, key)
        if lines:
            if key == "overestimation":
                lines.append(Line("the guidance scale", scales, scales, 0, dashed=True))
            charts.append(
                line_chart(lines, title=title, x_label="guidance scale", y_label=label, logarithmic=logarithmic,
                           from_zero=key != "similarity")
            )  # fmt: skip
    return join(tag("p", WORDS), tag("div", charts, class_="grid")) if charts else None


def _lines(sweep: Sequence[SweepEntry], scales: Sequence[float], key: str) -> list[Line]:
    """The sweep turned round, condition by condition, so that its groups are drawn like those of other charts."""
    turned = [
        SweptCondition(one.name, one.memorized, [getattr(entry.conditions[place], key) for entry in sweep])
        for place, one in enumerate(sweep[0].conditions)
    ]
    lines = []
    for group in groups(turned):
        line = group_line(group, lambda condition: condition.values)
        if line is not None:
            lines.append(replace(line, x=scales, series=group.series or 1))
    return lines
