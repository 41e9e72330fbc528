"""The positive control: which planted copies each criterion found."""

from collections.abc import Sequence

from memfast.foundation.proportions import Proportion
from memfast.foundation.values import percent, percent_range
from memfast.reports.markup import Markup, join, tag
from memfast.reports.run import ReportRun
from memfast.results import AuditFigures, PositiveControl

LEVELS = 5


def power(runs: Sequence[ReportRun]) -> Markup | None:
    """One table per training set; darker cells found more."""
    seen: dict[str | None, tuple[str, AuditFigures, PositiveControl]] = {}
    for run in runs:
        if run.audit is not None and run.audit.positive_control is not None and run.audit.positive_control.rows:
            seen.setdefault(run.audit.inputs.training.sha256, (run.label, run.audit, run.audit.positive_control))
    if not seen:
        return None
    return join([_table(label, audit, control, len(seen)) for label, audit, control in seen.values()])


def _table(label: str, audit: AuditFigures, control: PositiveControl, tables: int) -> Markup:
    titles = {entry.name: entry.title for entry in audit.applicable}
    names = [name for name in titles if all(name in row.criteria for row in control.rows)]
    head = ["Planted copy", *(titles[name] for name in names), "Nearest item is the original"]
    rows = [
        tag(
            "tr", tag("th", f"{row.copy}: {row.words}", scope="row"),
            [_cell(row.criteria[name]) for name in names], _cell(row.nearest_is_original),
        )
        for row in control.rows
    ]  # fmt: skip
    return join(
        tag("h3", label) if tables > 1 else None,
        tag(
            "p",
            f"The audit copied {control.planted} training items in each of these ways and judged the copies like "
            "generated samples. Each cell is the share it found: what this audit can see, and what it cannot.",
        ),
        tag(
            "div",
            tag("table", tag("thead", tag("tr", [tag("th", text, scope="col") for text in head])), tag("tbody", rows)),
            class_="scroll power",
        ),
    )


def _cell(share: Proportion) -> Markup:
    level = round(min(1.0, share.fraction) * LEVELS)
    return tag("td", percent(share.fraction), class_=f"heat h{level}", title=percent_range(share.wilson))
