"""Copies per class."""

from collections.abc import Sequence

from memfast.reports.charts import Dot, dot_chart
from memfast.reports.markup import Markup, folded, join, table, tag
from memfast.reports.numbers import percent, percent_range
from memfast.reports.run import ReportRun
from memfast.reports.sections.glance import applicable

MOST_BARS = 20


def classes(runs: Sequence[ReportRun]) -> Markup | None:
    """The classes with most copies as a chart, all as a table."""
    parts = [
        _of_run(number, run, len(runs)) for number, run in enumerate(runs, 1) if run.audit and run.audit["per_class"]
    ]
    return join(parts) if parts else None


def _of_run(number: int, run: ReportRun, runs: int) -> Markup | None:
    assert run.audit is not None
    entries = applicable(run.audit)
    if not entries:
        return None
    first, per_class = entries[0], run.audit["per_class"]
    rows = sorted(per_class["classes"], key=lambda row: -row["criteria"][first["name"]]["fraction"])
    dots = [
        (f"class {row['label']}", [Dot(run.label, row["criteria"][first["name"]], number)]) for row in rows[:MOST_BARS]
    ]
    middle = -(-len(dots) // 2)
    cells = [
        [
            str(row["label"]), f"{row['total']:,}",
            *(
                f"{percent(row['criteria'][entry['name']]['fraction'])} ({percent_range(row['criteria'][entry['name']]['wilson'])})"
                for entry in entries
            ),
        ]
        for row in sorted(rows, key=lambda row: row["label"])
    ]  # fmt: skip
    return join(
        tag("h3", run.label) if runs > 1 else None,
        tag("p", f"By {first['title'].lower()}; the class is that of the {per_class['labels_of']}" + (" sample." if per_class["labels_of"] == "generated" else "."), class_="note"),
        tag("div", [dot_chart(half, title="Fraction of copies by class", show_title=False) for half in (dots[:middle], dots[middle:]) if half], class_="grid"),
        folded("All classes and criteria", table(["Class", "Samples", *(entry["title"] for entry in entries)], cells)),
    )  # fmt: skip
