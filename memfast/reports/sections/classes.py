"""Copies per class."""

from collections.abc import Mapping, Sequence
from typing import Any

from memfast.foundation.values import percent, percent_range
from memfast.reports.charts import Dot, dot_chart
from memfast.reports.markup import Markup, folded, join, table, tag
from memfast.reports.run import ReportRun
from memfast.reports.sections.glance import applicable

MOST_BARS = 20


def classes(runs: Sequence[ReportRun]) -> Markup | None:
    """The classes with most copies as a chart, all as a table."""
    parts = [
        _of_run(number, run, len(runs))
        for number, run in enumerate(runs, 1)
        if run.audit is not None and run.audit["per_class"] is not None
    ]
    return join(parts) if parts else None


def _of_run(number: int, run: ReportRun, runs: int) -> Markup | None:
    assert run.audit is not None
    entries = applicable(run.audit)
    if not entries:
        return None
    first, per_class = entries[0]["name"], run.audit["per_class"]
    rows = sorted(per_class["classes"], key=lambda row: -row["criteria"][first]["fraction"])
    shown = rows[:MOST_BARS]
    largest = max(dot.share["wilson"][1] for row in shown for dot in _dots(number, run.label, row, first))
    middle = -(-len(shown) // 2)
    charts = [
        dot_chart(
            [(class_name(run.audit, row["label"]), _dots(number, run.label, row, first)) for row in half],
            title="Fraction of copies by class",
            show_title=False,
            largest=largest,
        )
        for half in (shown[:middle], shown[middle:])
        if half
    ]
    whose = "generated sample" if per_class["labels_of"] == "generated" else per_class["labels_of"]
    return join(
        tag("h3", run.label) if runs > 1 else None,
        tag(
            "p",
            f"By {entries[0]['title'].lower()}; the class is that of the {whose}."
            + (" Hollow: held-out data of the class." if any(row["held_out"] for row in shown) else ""),
            class_="note",
        ),
        tag("div", charts, class_="grid"),
        folded("All classes and criteria", _table(run.audit, entries, rows)),
    )


def class_name(audit: Mapping[str, Any] | None, label: int) -> str:
    """What a person calls a class: its name, or its number where it has none."""
    names = ((audit or {}).get("per_class") or {}).get("names", {})
    return names.get(str(label), f"class {label}")


def _dots(number: int, label: str, row: Mapping[str, Any], name: str) -> list[Dot]:
    dots = [Dot(label, row["criteria"][name], number)]
    if row["held_out"] and name in row["held_out"]:
        dots.append(Dot("held-out", row["held_out"][name], 0, hollow=True))
    return dots


def _table(audit: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> Markup:
    lines = []
    for row in sorted(rows, key=lambda row: row["label"]):
        cells = []
        for entry in entries:
            share, floor = row["criteria"][entry["name"]], (row["held_out"] or {}).get(entry["name"])
            text = f"{percent(share['fraction'])} ({percent_range(share['wilson'])})"
            cells.append(text + (f"; held-out {percent(floor['fraction'])}" if floor else ""))
        lines.append([class_name(audit, row["label"]), f"{row['total']:,}", *cells])
    return table(["Class", "Samples", *(entry["title"] for entry in entries)], lines)
