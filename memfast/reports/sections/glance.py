"""At a glance: how much was copied, how sure that is, and what held-out data give."""

from collections.abc import Sequence

from memfast.foundation.values import in_percent, percent, percent_range
from memfast.reports.charts import Dot, dot_chart, legend
from memfast.reports.charts.axes import colour
from memfast.reports.markup import Markup, folded, join, tag
from memfast.reports.run import ReportRun
from memfast.results import AuditFigures, CriterionResult


def glance(runs: Sequence[ReportRun]) -> Markup | None:
    """One large figure per run, the chart of all criteria, the statement."""
    audited = [run for run in runs if run.audit is not None]
    if not audited:
        return None
    cards = [_card(number, run.label, run.audit, len(audited)) for number, run in enumerate(audited, 1) if run.audit]
    return join(
        tag("div", cards, class_="cards"),
        _warnings(audited),
        _charts(audited),
        [_statement(run.label, run.audit, len(audited)) for run in audited if run.audit],
    )


def by_name(run: ReportRun, name: str) -> CriterionResult | None:
    """A run's result of one criterion, where it applies."""
    return next((entry for entry in run.audit.applicable if entry.name == name), None) if run.audit else None


def _card(number: int, label: str, audit: AuditFigures, runs: int) -> Markup:
    entry = audit.headline
    if entry is None:
        return tag("article", tag("h3", label), tag("p", "No criterion applies to this data."), class_="card")
    share, floor = entry.copies, entry.held_out
    confidence = in_percent(audit.parameters.confidence)
    distinct = share.distinct_training_items
    return tag(
        "article",
        tag("h3", tag("span", "", class_=f"key s{(number - 1) % 6 + 1}") if runs > 1 else None, label),
        tag("p", percent(share.fraction), class_="figure"),
        tag(
            "p",
            f"of the generated samples count as copies: {share.count:,} of {share.total:,}"
            + (f", of {distinct:,} different training item{'s' if distinct != 1 else ''}" if share.count else ""),
        ),
        tag(
            "dl",
            tag("dt", f"{confidence} interval"),
            tag("dd", percent_range(share.wilson)),
            tag("dt", _floor_name(audit)),
            tag("dd", percent(floor.fraction) if floor else "none given"),
        ),
        tag("p", f"By {entry.title.lower()}, threshold {entry.threshold:.3g}", class_="note"),
        class_="card",
    )


def _charts(runs: Sequence[ReportRun]) -> Markup:
    names: dict[str, str] = {}
    for run in runs:
        names.update({entry.name: entry.title for entry in run.audit.applicable} if run.audit else {})
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
    dots, floors = [], []
    for number, run in enumerate(runs, 1):
        entry = by_name(run, name)
        if entry is not None:
            dots.append(Dot(run.label, entry.copies, number))
            if entry.held_out:
                floors.append(Dot(f"{run.label}, held-out", entry.held_out, number, hollow=True))
    if floors and all(floor.share == floors[0].share for floor in floors):
        floors = [Dot("held-out", floors[0].share, 0, hollow=True)]
    return dots + floors


def _statement(label: str, audit: AuditFigures, runs: int) -> Markup:
    statement = audit.statement
    parts = [("Tested", statement.tested), ("Found", statement.found), ("Not proven", statement.not_proven)]
    columns = [
        tag("div", tag("h4", heading), tag("ul", [tag("li", text) for text in sentences]))
        for heading, sentences in parts
        if sentences
    ]
    heading = "What was tested, and what is not proven" + (f": {label}" if runs > 1 else "")
    content = tag("div", columns, class_="statement")
    if runs == 1:
        return join(tag("h3", heading), content)
    return folded(heading, content)


def _warnings(runs: Sequence[ReportRun]) -> list[Markup]:
    """Each warning once, with the runs it is about."""
    about: dict[str, list[str]] = {}
    for run in runs:
        for text in run.audit.statement.warnings if run.audit else ():
            about.setdefault(text, []).append(run.label)
    return [
        tag("p", tag("b", f"{', '.join(labels)}: ") if len(runs) > 1 else None, text, class_="warning")
        for text, labels in about.items()
    ]


def _floor_name(audit: AuditFigures) -> str:
    held_out = audit.inputs.held_out
    return "Training against itself" if held_out and held_out.origin != "given" else "Held-out data"
