"""The criteria: their figures in full, and how the count depends on the threshold."""

from collections.abc import Mapping, Sequence
from typing import Any

from memfast.foundation.values import percent, percent_range
from memfast.reports.charts import Line, line_chart
from memfast.reports.charts.axes import in_percent
from memfast.reports.markup import Markup, folded, join, table, tag
from memfast.reports.numbers import short
from memfast.reports.run import ReportRun
from memfast.reports.sections.glance import applicable, by_name

DEFINITION_HEAD = ["Criterion", "Counts as a copy", "Source", "Notes"]
HEAD = ["Criterion", "Threshold", "Copies", "Fraction", "Wilson", "Clopper-Pearson", "Bootstrap", "Held-out", "Excess"]


def criteria(runs: Sequence[ReportRun]) -> Markup | None:
    """Curves over thresholds, then tables."""
    audited = [run for run in runs if run.audit is not None]
    if not audited:
        return None
    names: dict[str, Mapping[str, Any]] = {}
    for run in audited:
        for entry in applicable(run.audit or {"criteria": ()}):
            names.setdefault(entry["name"], entry)
    return join(
        tag(
            "p",
            "A count depends on its threshold. Solid lines are generated samples, dashed lines held-out data: copies "
            "show where the two part.",
        ),
        tag("div", [_curve(entry, audited) for entry in names.values()], class_="grid"),
        [_tables(run, len(audited)) for run in audited],
    )


def _curve(entry: Mapping[str, Any], runs: Sequence[ReportRun]) -> Markup:
    lines, floors = [], []
    for number, run in enumerate(runs, 1):
        own = by_name(run, entry["name"])
        if own is None:
            continue
        curve, prefix = own["curve"], f"{run.label}, " if len(runs) > 1 else ""
        lines.append(Line(run.label if prefix else "generated", curve["thresholds"], curve["generated"], number))
        if curve["held_out"] is not None:
            floors.append(Line(f"{prefix}held-out", curve["thresholds"], curve["held_out"], number, True))
    if floors and all(floor.y == floors[0].y for floor in floors):
        floors = [Line("held-out", floors[0].x, floors[0].y, 0, True)]
    sign = "below" if entry["copies_are_low"] else "above"
    return line_chart(
        lines + floors, title=entry["title"], x_label=f"threshold (copies are {sign} it)", y_label="fraction of copies",
        marker=(entry["threshold"], f"threshold {entry['threshold']:.3g}"), y_words=in_percent,
    )  # fmt: skip


def _tables(run: ReportRun, runs: int) -> Markup:
    assert run.audit is not None
    rows, levels = [], []
    for entry in run.audit["criteria"]:
        if not entry["applicable"]:
            rows.append([entry["title"], "", f"not applied: {entry['why_not']}", *[""] * (len(HEAD) - 3)])
            continue
        rows.append(_row(entry, entry["threshold"], entry["generated"], entry["held_out"], entry["excess"]))
        levels += [
            _row(entry, level["threshold"], level["generated"], level["held_out"], None)
            for level in entry["levels"]
            if level["threshold"] != entry["threshold"]
        ]
    definitions = [
        [entry["title"], entry["definition"], entry["source"], "; ".join(entry.get("notes", ()))]
        for entry in run.audit["criteria"]
    ]
    suffix = f": {run.label}" if runs > 1 else ""
    matched = [
        [
            entry["title"], short(entry["matched"]["threshold"]), percent(entry["matched"]["held_out_fraction"]),
            percent(entry["matched"]["generated"]["fraction"]), percent_range(entry["matched"]["generated"]["wilson"]),
        ]
        for entry in applicable(run.audit)
        if entry["matched"]
    ]  # fmt: skip
    return join(
        folded(f"All figures{suffix}", table(HEAD, rows)),
        folded(f"At other thresholds{suffix}", table(HEAD[:-1], [row[:-1] for row in levels])) if levels else None,
        folded(
            f"At the threshold that at most 1 % of held-out data pass{suffix}",
            table(["Criterion", "That threshold", "Held-out beyond it", "Generated beyond it", "Interval"], matched),
        )
        if matched
        else None,
        folded(f"Definitions and sources{suffix}", table(DEFINITION_HEAD, definitions, class_="text")),
    )


def _row(
    entry: Mapping[str, Any],
    threshold: float,
    share: Mapping[str, Any],
    floor: Mapping[str, Any] | None,
    excess: Mapping[str, Any] | None,
) -> list[Any]:
    return [
        entry["title"], f"{'<' if entry['copies_are_low'] else '>'} {threshold:.3g}",
        f"{share['count']:,} of {share['total']:,}", percent(share["fraction"]), percent_range(share["wilson"]),
        percent_range(share["clopper_pearson"]), percent_range(share["bootstrap"]),
        percent(floor["fraction"]) if floor else "none",
        percent_range(excess["newcombe"]) if excess else "",
    ]  # fmt: skip
