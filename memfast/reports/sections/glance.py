"""At a glance: how much was copied, how sure that is, and what held-out data give."""

from collections.abc import Mapping, Sequence
from typing import Any

from memfast.reports.charts import Dot, dot_chart, legend
from memfast.reports.markup import Markup, join, tag
from memfast.reports.numbers import percent, percent_range
from memfast.reports.run import ReportRun


def glance(runs: Sequence[ReportRun]) -> Markup | None:
    """One large figure per run, the chart of all criteria, the statement."""
    audited = [run for run in runs if run.audit is not None]
    if not audited:
        return None
    return join(
        tag("div", [_card(number, run, len(audited)) for number, run in enumerate(audited, 1)], class_="cards"),
        _chart(audited),
        [_statement(run, len(audited)) for run in audited],
    )


def applicable(audit: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The criteria that could be applied."""
    return [entry for entry in audit["criteria"] if entry["applicable"]]


def _card(number: int, run: ReportRun, runs: int) -> Markup:
    assert run.audit is not None
    entries = applicable(run.audit)
    if not entries:
        return tag("article", tag("h3", run.label), tag("p", "No criterion applies to this data."), class_="card")
    entry = entries[0]
    share, floor = entry["generated"], entry["held_out"]
    confidence = f"{run.audit['parameters']['confidence']:.0%}".replace("%", " %")
    distinct = share["distinct_training_items"]
    return tag(
        "article",
        tag("h3", tag("span", "", class_=f"key s{(number - 1) % 6 + 1}") if runs > 1 else None, run.label),
        tag("p", percent(share["fraction"]), class_="figure"),
        tag(
            "p",
            f"of the generated samples are copies: {share['count']:,} of {share['total']:,}"
            + (f", of {distinct:,} training item{'s' if distinct != 1 else ''}" if share["count"] else ""),
        ),
        tag(
            "dl",
            tag("dt", f"{confidence} interval"),
            tag("dd", percent_range(share["wilson"])),
            tag("dt", _floor_name(run.audit)),
            tag("dd", percent(floor["fraction"]) if floor else "none given"),
        ),
        tag("p", f"By {entry['title'].lower()}, threshold {entry['threshold']:.3g}", class_="note"),
        class_="card",
    )


def _chart(runs: Sequence[ReportRun]) -> Markup:
    names: dict[str, str] = {}
    for run in runs:
        assert run.audit is not None
        names.update({entry["name"]: entry["title"] for entry in applicable(run.audit)})
    groups = []
    for name, title in names.items():
        dots = []
        for number, run in enumerate(runs, 1):
            entry = next((one for one in applicable(run.audit or {}) if one["name"] == name), None)
            if entry is not None:
                dots.append(Dot(run.label, entry["generated"], number))
                if entry["held_out"]:
                    dots.append(Dot(f"{run.label}, held-out", entry["held_out"], number, hollow=True))
        groups.append((title, dots))
    middle = -(-len(groups) // 2)
    halves = [groups[:middle], groups[middle:]] if len(groups) > 2 else [groups]
    keys = [(run.label, number, False) for number, run in enumerate(runs, 1)] if len(runs) > 1 else []
    return tag(
        "div",
        tag("h3", "By every criterion"),
        tag("p", "Filled: generated samples. Hollow: held-out data through the same test. Bars: the interval.", class_="note"),
        legend(keys) if keys else None,
        tag("div", [dot_chart(half, title="Fraction of copies by criterion", show_title=False) for half in halves if half], class_="grid"),
    )  # fmt: skip


def _statement(run: ReportRun, runs: int) -> Markup:
    assert run.audit is not None
    statement = run.audit["statement"]
    parts = [("Tested", "tested"), ("Found", "found"), ("Not proven", "not_proven")]
    columns = [
        tag("div", tag("h4", heading), tag("ul", [tag("li", text) for text in statement[key]]))
        for heading, key in parts
        if statement[key]
    ]
    warnings = [tag("p", text, class_="warning") for text in statement["warnings"]]
    heading = "What was tested, and what is not proven" + (f": {run.label}" if runs > 1 else "")
    content = tag("div", columns, class_="statement")
    if runs == 1:
        return join(warnings, tag("h3", heading), content)
    return join(warnings, tag("details", tag("summary", heading), content))


def _floor_name(audit: Mapping[str, Any]) -> str:
    held_out = audit["inputs"]["held_out"]
    return "Training against itself" if held_out and held_out["origin"] != "given" else "Held-out data"
