"""Copies per class."""

from collections.abc import Sequence

from memfast.foundation.values import percent, percent_range
from memfast.reports.charts import Dot, dot_chart
from memfast.reports.markup import Markup, folded, join, table, tag
from memfast.reports.run import ReportRun
from memfast.results import AuditFigures, ClassResult, ClassResults

MOST_DRAWN = 20


def classes(runs: Sequence[ReportRun]) -> Markup | None:
    """The classes with most copies as a chart, all as a table."""
    parts = [_of_run(number, run, len(runs)) for number, run in enumerate(runs, 1)]
    parts = [part for part in parts if part is not None]
    return join(parts) if parts else None


def class_name(audit: AuditFigures | None, label: int) -> str:
    """What a person calls a class: its name, or its number where it has none."""
    return f"class {label}" if audit is None or audit.per_class is None else audit.per_class.name(label)


def _of_run(number: int, run: ReportRun, runs: int) -> Markup | None:
    audit = run.audit
    if audit is None or audit.per_class is None or audit.headline is None or not audit.per_class.classes:
        return None
    first, per_class = audit.headline.name, audit.per_class
    rows = sorted(per_class.classes, key=lambda row: -row.criteria[first].fraction)
    shown = rows[:MOST_DRAWN]
    largest = max(dot.share.wilson.high for row in shown for dot in _dots(number, run.label, row, first))
    middle = -(-len(shown) // 2)
    charts = [
        dot_chart(
            [(per_class.name(row.label), _dots(number, run.label, row, first)) for row in half],
            title="Fraction of copies by class",
            show_title=False,
            largest=largest,
        )
        for half in (shown[:middle], shown[middle:])
        if half
    ]
    return join(
        tag("h3", run.label) if runs > 1 else None,
        tag("p", " ".join(_notes(audit, per_class, shown)), class_="note"),
        tag("div", charts, class_="grid"),
        folded(f"All {len(rows):,} classes and criteria", _table(audit, per_class)),
    )


def _notes(audit: AuditFigures, per_class: ClassResults, shown: Sequence[ClassResult]) -> list[str]:
    whose = "generated sample" if per_class.labels_of == "generated" else per_class.labels_of
    title = "" if audit.headline is None else audit.headline.title.lower()
    notes = [f"By {title}; the class is that of the {whose}."]
    if len(per_class.classes) > len(shown):
        notes.append(
            f"Drawn are the {len(shown)} of {len(per_class.classes):,} classes with the largest fraction of copies; "
            "the table below has all."
        )
    if any(row.held_out for row in shown):
        notes.append("Hollow: held-out data of the class.")
    return notes


def _dots(number: int, label: str, row: ClassResult, name: str) -> list[Dot]:
    dots = [Dot(label, row.criteria[name], number)]
    if row.held_out and name in row.held_out:
        dots.append(Dot("held-out", row.held_out[name], 0, hollow=True))
    return dots


def _table(audit: AuditFigures, per_class: ClassResults) -> Markup:
    lines = []
    for row in sorted(per_class.classes, key=lambda row: row.label):
        cells = []
        for entry in audit.applicable:
            share, floor = row.criteria[entry.name], (row.held_out or {}).get(entry.name)
            text = f"{percent(share.fraction)} ({percent_range(share.wilson)})"
            cells.append(text + (f"; held-out {percent(floor.fraction)}" if floor else ""))
        lines.append([tag("span", per_class.name(row.label), class_="name"), f"{row.total:,}", *cells])
    return table(["Class", "Samples", *(entry.title for entry in audit.applicable)], lines)
