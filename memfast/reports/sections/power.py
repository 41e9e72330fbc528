"""The positive control: which planted copies each criterion found."""

from collections.abc import Mapping, Sequence
from typing import Any

from memfast.foundation.values import percent, percent_range
from memfast.reports.markup import Markup, join, tag
from memfast.reports.run import ReportRun
from memfast.reports.sections.glance import applicable

LEVELS = 5


def power(runs: Sequence[ReportRun]) -> Markup | None:
    """One table per training set; darker cells found more."""
    seen: dict[str, ReportRun] = {}
    for run in runs:
        if run.audit is not None and run.audit["positive_control"] is not None:
            seen.setdefault(run.audit["inputs"]["training"]["sha256"], run)
    if not seen:
        return None
    return join([_table(run, len(seen)) for run in seen.values()])


def _table(run: ReportRun, tables: int) -> Markup:
    assert run.audit is not None
    control = run.audit["positive_control"]
    titles = {entry["name"]: entry["title"] for entry in applicable(run.audit)}
    names = [name for name in titles if name in control["rows"][0]["criteria"]]
    head = ["Planted copy", *(titles[name] for name in names), "Nearest item is the original"]
    rows = [
        tag(
            "tr", tag("th", f"{row['copy']}: {row['words']}", scope="row"),
            [_cell(row["criteria"][name]) for name in names], _cell(row["nearest_is_original"]),
        )
        for row in control["rows"]
    ]  # fmt: skip
    return join(
        tag("h3", run.label) if tables > 1 else None,
        tag(
            "p",
            f"The audit copied {control['planted']} training items in each of these ways and judged the copies like "
            "generated samples. Each cell is the share it found: what this audit can see, and what it cannot.",
        ),
        tag(
            "div",
            tag("table", tag("thead", tag("tr", [tag("th", text, scope="col") for text in head])), tag("tbody", rows)),
            class_="scroll power",
        ),
    )


def _cell(share: Mapping[str, Any]) -> Markup:
    level = round(share["fraction"] * LEVELS)
    return tag("td", percent(share["fraction"]), class_=f"heat h{level}", title=percent_range(share["wilson"]))
