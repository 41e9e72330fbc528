"""Where the sets lie on the training set's principal components."""

from collections.abc import Sequence
from itertools import pairwise

from memfast.foundation.values import percent
from memfast.reports.charts import Line, Points, line_chart, scatter_chart
from memfast.reports.markup import Markup, join, tag
from memfast.reports.run import ReportRun
from memfast.results import Projection

WORDS = (
    "A random part of each set on the principal components of the training set's values. Samples that lie where no "
    "training item does, or leave parts of the training set empty, are seen here; copies of single items are not."
)


def distribution(runs: Sequence[ReportRun]) -> Markup | None:
    """A scatter of the first two components and a histogram of each, once per training set."""
    groups: dict[tuple[str | None, tuple[float, ...]], list[tuple[int, str, Projection]]] = {}
    for number, run in enumerate(runs, 1):
        if run.audit is not None and run.audit.projection is not None:
            same = run.audit.inputs.training.sha256, run.audit.projection.explained
            groups.setdefault(same, []).append((number, run.label, run.audit.projection))
    if not groups:
        return None
    return join(tag("p", WORDS), [_of_training_set(group, len(groups), len(runs)) for group in groups.values()])


def _of_training_set(group: Sequence[tuple[int, str, Projection]], groups: int, runs: int) -> Markup:
    projections = [(number, label if runs > 1 else "generated", one) for number, label, one in group]
    first = projections[0][2]
    held_out = next((one for _, _, one in projections if "held_out" in one.points), None)
    labels = [
        f"component {number} ({percent(share)} of the variance)" for number, share in enumerate(first.explained, 1)
    ]
    points = [Points("training", first.points["training"], 0)]
    if held_out is not None:
        points.append(Points("held-out", held_out.points["held_out"], crosses=True))
    points += [Points(name, one.points["generated"], number) for number, name, one in projections]
    charts = [scatter_chart(points, title="The sets on two components", x_label=labels[0], y_label=labels[1])]
    for at, label in enumerate(labels):
        lines = [_line("training", first, "training", at, 0)]
        lines += [_line(name, one, "generated", at, number) for number, name, one in projections]
        if held_out is not None:
            lines.append(_line("held-out", held_out, "held_out", at, 0, dashed=True))
        charts.append(
            line_chart(lines, title=f"Component {at + 1}", x_label=label, y_label="density")
        )  # fmt: skip
    heading = tag("h3", ", ".join(label for _, label, _ in group)) if groups > 1 else None
    note = f"Components fitted on {first.fitted:,} training items."
    return join(heading, tag("div", charts, class_="grid"), tag("p", note, class_="note"))


def _line(name: str, projection: Projection, side: str, component: int, series: int, *, dashed: bool = False) -> Line:
    histogram = projection.histograms[component]
    corners = [corner for edges in pairwise(histogram["edges"]) for corner in edges]
    return Line(name, corners, [value for value in histogram[side] for _ in range(2)], series, dashed)
