"""At a glance: how much was copied, how sure that is, and what held-out data give."""

from collections.abc import Mapping, Sequence
from typing import Any

from memfast.foundation.values import percent, percent_range
from memfast.reports.charts import Dot, dot_chart, legend
from memfast.reports.charts.axes import colour
from memfast.reports.markup import Markup, folded, join, tag
from memfast.reports.run import ReportRun


def glance(runs: Sequence[ReportRun]) -> Markup | None:
    """One large figure per run, the chart of all criteria, the statement."""
    audited = [run for run in runs if run.audit is not None]
    if not audited:
        return None
    return join(
        tag("div", [_card(number, run, len(audited)) for number, run in enumerate(audited, 1)], class_="cards"),
        _warnings(audited),
        _charts(audited),
        [_statement(run, len(audited)) for run in audited],
    )


def applicable(audit: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The criteria that could be applied."""
    return [entry for entry in audit["criteria"] if entry["applicable"]]


def by_name(run: ReportRun, name: str) -> Mapping[str, Any] | None:
    """A run's entry of one criterion, where it applies."""
    return next((entry for entry in applicable(run.audit or {"criteria": ()}) if entry["name"] == name), None)


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
            f"of the generated samples count as copies: {share['count']:,} of {share['total']:,}"
            + (f", of {distinct:,} different training item{'s' if distinct != 1 else ''}" if share["count"] else ""),
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


def _charts(runs: Sequence[ReportRun]) -> Markup:
    names: dict[str, str] = {}
    for run in runs:
        names.update({entry["name"]: entry["title"] for entry in applicable(run.audit or {"criteria": ()})})
    charts = [dot_chart([("", _dots(runs, name))], title=title) for name, title in names.items()]
    keys = [(run.label, f"s{colour(number)}") for number, run in enumerate(runs, 1)] if len(runs) > 1 else []
    words = "Filled: generated samples. Hollow: held-out data through the same test. Bars: the interval."
    return join(
        tag("h3", "By every criterion"),
        tag("p", words, class_="note"),
        legend(keys) if keys else None,
        tag("div", charts, class_="grid small"),
    )


def _dots(runs: Sequence[ReportRun], name: str) -> list[Dot]:
    """Each run's share, and the floor: once, in grey, where all runs have the same."""
    entries = [(number, run.label, by_name(run, name)) for number, run in enumerate(runs, 1)]
    dots, floors = [], []
    for number, label, entry in entries:
        if entry is not None:
            dots.append(Dot(label, entry["generated"], number))
            if entry["held_out"]:
                floors.append(Dot(f"{label}, held-out", entry["held_out"], number, hollow=True))
    if floors and all(floor.share == floors[0].share for floor in floors):
        floors = [Dot("held-out", floors[0].share, 0, hollow=True)]
    return dots + floors


def _statement(run: ReportRun, runs: int) -> Markup:
    assert run.audit is not None
    statement = run.audit["statement"]
    parts = [("Tested", "tested"), ("Found", "found"), ("Not proven", "not_proven")]
    columns = [
        tag("div", tag("h4", heading), tag("ul", [tag("li", text) for text in statement[key]]))
        for heading, key in parts
        if statement[key]
    ]
    heading = "What was tested, and what is not proven" + (f": {run.label}" if runs > 1 else "")
    content = tag("div", columns, class_="statement")
    if runs == 1:
        return join(tag("h3", heading), content)
    return folded(heading, content)


def _warnings(runs: Sequence[ReportRun]) -> list[Markup]:
    """Each warning once, with the runs it is about."""
    about: dict[str, list[str]] = {}
    for run in runs:
        for text in (run.audit or {})["statement"]["warnings"]:
            about.setdefault(text, []).append(run.label)
    return [
        tag("p", tag("b", f"{', '.join(labels)}: ") if len(runs) > 1 else None, text, class_="warning")
        for text, labels in about.items()
    ]


def _floor_name(audit: Mapping[str, Any]) -> str:
    held_out = audit["inputs"]["held_out"]
    return "Training against itself" if held_out and held_out["origin"] != "given" else "Held-out data"
