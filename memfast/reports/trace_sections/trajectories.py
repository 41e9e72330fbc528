"""What happens along the trajectory: diversity, losses, directions, the gap between the branches of guidance."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from memfast.reports.charts import Line, line_chart
from memfast.reports.markup import Markup, join, tag
from memfast.reports.trace_sections.groups import STEP, Series, chart, groups, mean_curve
from memfast.results.trace import ConditionTrace, TraceFigures

BRANCHES = ("guided", "conditional", "unconditional")
DIVERSITY = (
    "The mean distance between the states of one condition that started from different noise. It shrinks in every "
    "run; where it shrinks to almost nothing, all seeds end in the same sample."
)
LOSSES = (
    "Squared error of the estimate of the clean sample against the target, summed over its values. Under guidance "
    "the estimate of a memorized condition overshoots its target at first: a larger loss there is a sign of "
    "memorization, not of ignorance. The estimate with the condition alone shows whether the network knows the "
    "item."
)
ALIGNMENT = (
    "Cosines; 1 is the same direction. The first chart asks whether the estimate of the clean sample points to the "
    "target, the second whether the noise that the network sees is still the initial noise. Solid: with guidance, "
    "dashed: the condition alone, dotted: without a condition. Means over the conditions."
)
GAP = "The distance between what the network predicts with the condition and without: what guidance multiplies."
POSTERIOR = (
    "The posterior weight of the likeliest training item, if the training set were all there is, goes from near 0 "
    "(any item may come of this state) to 1 (only one can)."
)


def diversity(trace: TraceFigures) -> Markup | None:
    """Mean distance between seeds."""
    drawing = chart(
        trace, lambda condition: condition.diversity,
        title="Distance between the seeds of a condition", y_label="mean distance",
    )  # fmt: skip
    return None if drawing is None else join(tag("p", DIVERSITY), tag("div", drawing, class_="grid"))


def losses(trace: TraceFigures) -> Markup | None:
    """The loss of each branch."""
    titles = ("Under guidance", "The condition alone", "Without a condition")
    charts = [
        chart(trace, _of("loss", branch), title=title, x_label=STEP, y_label="squared error, logarithmic",
              logarithmic=True)
        for branch, title in zip(BRANCHES, titles, strict=True)
    ]  # fmt: skip
    return join(tag("p", LOSSES), tag("div", charts, class_="grid")) if any(charts) else None


def alignment(trace: TraceFigures) -> Markup | None:
    """Both kinds of cosines, branch by branch."""
    charts = []
    for key, title in (
        ("alignment_target", "Estimate of the clean sample and target"),
        ("alignment_initial", "Predicted noise and initial noise"),
    ):
        lines = _branch_lines(trace, key)
        if lines:
            charts.append(line_chart(lines, title=title, x_label=STEP, y_label="cosine", from_zero=False))
    return join(tag("p", ALIGNMENT), tag("div", charts, class_="grid")) if charts else None


def branch_gap(trace: TraceFigures) -> Markup | None:
    """The gap between the branches, and the posterior over the training items."""
    charts = [
        (GAP, chart(trace, lambda condition: condition.branch_gap, title="Gap between the branches",
                    x_label=STEP, y_label="distance, logarithmic", logarithmic=True)),
        (POSTERIOR, chart(trace, _max_weight,
                          title="Greatest posterior weight of one training item",
                          x_label=STEP, y_label="weight")),
    ]  # fmt: skip
    shown = [(words, drawing) for words, drawing in charts if drawing is not None]
    if not shown:
        return None
    return join(tag("p", " ".join(words for words, _ in shown)), tag("div", [one for _, one in shown], class_="grid"))


def _max_weight(condition: ConditionTrace) -> Sequence[float | None] | None:
    return None if condition.posterior is None else condition.posterior.max_weight


def _branch_lines(trace: TraceFigures, key: str) -> Sequence[Line]:
    lines = []
    for group in groups(trace.conditions):
        for branch in BRANCHES:
            values = mean_curve(group, _of(key, branch))
            if values is not None and np.isfinite(values).any():
                line = Line(f"{group.name}, {branch}", range(len(values)), values.tolist(), group.series or 1)
                lines.append(replace(line, dashed=branch == "conditional", dotted=branch == "unconditional"))
    return lines


def _of(kind: str, part: str) -> Series:
    return lambda condition: getattr(getattr(condition, kind), part)
