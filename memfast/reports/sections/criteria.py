"""The criteria: their figures in full, and how the count depends on the threshold."""

from collections.abc import Sequence
from typing import Any

from memfast.foundation.proportions import Proportion
from memfast.foundation.values import in_percent, percent, percent_range
from memfast.reports.charts import Line, line_chart
from memfast.reports.markup import Markup, folded, join, table, tag
from memfast.reports.numbers import short
from memfast.reports.run import ReportRun
from memfast.reports.sections.glance import by_name
from memfast.results import AuditFigures, CriterionResult, Excess

DEFINITION_HEAD = ["Criterion", "Counts as a copy", "Source", "Notes"]
HEAD = ["Criterion", "Threshold", "Copies", "Fraction", "Wilson", "Clopper-Pearson", "Bootstrap", "Held-out", "Excess"]
MATCHED_HEAD = ["Criterion", "That threshold", "Held-out beyond it", "Generated beyond it", "Interval"]


def criteria(runs: Sequence[ReportRun]) -> Markup | None:
    """Curves over thresholds, then tables."""
    audited = [run for run in runs if run.audit is not None]
    if not audited:
        return None
    names: dict[str, CriterionResult] = {}
    for run in audited:
        for entry in run.audit.applicable if run.audit else ():
            names.setdefault(entry.name, entry)
    return join(
        tag(
            "p",
            "A count depends on its threshold. Solid lines are generated samples, dashed lines held-out data: copies "
            "show where the two part.",
        ),
        tag("div", [_curve(entry, audited) for entry in names.values()], class_="grid"),
        [_tables(run.audit, f": {run.label}" if len(audited) > 1 else "") for run in audited if run.audit],
    )


def _curve(entry: CriterionResult, runs: Sequence[ReportRun]) -> Markup:
    lines, floors = [], []
    for number, run in enumerate(runs, 1):
        own = by_name(run, entry.name)
        if own is None or own.curve is None:
            continue
        curve, prefix = own.curve, f"{run.label}, " if len(runs) > 1 else ""
        lines.append(Line(run.label if prefix else "generated", curve.thresholds, curve.generated, number))
        if curve.held_out is not None:
            floors.append(Line(f"{prefix}held-out", curve.thresholds, curve.held_out, number, True))
    if floors and all(floor.y == floors[0].y for floor in floors):
        floors = [Line("held-out", floors[0].x, floors[0].y, 0, True)]
    sign = "below" if entry.copies_are_low else "above"
    return line_chart(
        lines + floors, title=entry.title, x_label=f"threshold (copies are {sign} it)", y_label="fraction of copies",
        marker=(entry.threshold, f"threshold {entry.threshold:.3g}"), y_words=in_percent,
    )  # fmt: skip


def _tables(audit: AuditFigures, suffix: str) -> Markup:
    rows, levels, matched = [], [], []
    for entry in audit.criteria:
        if entry.generated is None:
            rows.append([entry.title, "", f"not applied: {entry.why_not}", *[""] * (len(HEAD) - 3)])
            continue
        rows.append(_row(entry, entry.threshold, entry.generated, entry.held_out, entry.excess))
        levels += [
            _row(entry, level.threshold, level.generated, level.held_out, None)
            for level in entry.levels
            if level.threshold != entry.threshold
        ]
        if entry.matched is not None:
            found = entry.matched
            matched.append(
                [
                    entry.title, short(found.threshold), percent(found.held_out_fraction),
                    percent(found.generated.fraction), percent_range(found.generated.wilson),
                ]
            )  # fmt: skip
    definitions = [[entry.title, entry.definition, entry.source, "; ".join(entry.notes)] for entry in audit.criteria]
    return join(
        folded(f"All figures{suffix}", table(HEAD, rows)),
        folded(f"At other thresholds{suffix}", table(HEAD[:-1], [row[:-1] for row in levels])) if levels else None,
        folded(f"At the threshold that at most 1 % of held-out data pass{suffix}", table(MATCHED_HEAD, matched))
        if matched
        else None,
        folded(f"Definitions and sources{suffix}", table(DEFINITION_HEAD, definitions, class_="text")),
    )


def _row(
    entry: CriterionResult, threshold: float, share: Proportion, floor: Proportion | None, excess: Excess | None
) -> list[Any]:
    return [
        entry.title, f"{'<' if entry.copies_are_low else '>'} {threshold:.3g}",
        f"{share.count:,} of {share.total:,}", percent(share.fraction), percent_range(share.wilson),
        percent_range(share.clopper_pearson), percent_range(share.bootstrap),
        percent(floor.fraction) if floor else "none", percent_range(excess.newcombe) if excess else "",
    ]  # fmt: skip
