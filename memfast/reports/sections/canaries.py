"""Canaries: which of the known items in the training set came back."""

from collections.abc import Sequence

from memfast.foundation.values import percent, percent_range
from memfast.reports.markup import Markup, folded, join, table, tag
from memfast.reports.run import ReportRun
from memfast.results import CanaryShares

WORDS = (
    "Known items were put into the training set on purpose, some of them many times. One came back if a sample counts "
    "as a copy of it. With many copies they should: else the training has not got far, or this audit is blind."
)


def canaries(runs: Sequence[ReportRun]) -> Markup | None:
    """One table per run that had canaries."""
    shown = [run for run in runs if run.audit is not None and run.audit.canaries is not None]
    if not shown:
        return None
    return join(tag("p", WORDS), [_tables(run, len(runs)) for run in shown])


def _tables(run: ReportRun, count: int) -> Markup:
    assert run.audit is not None
    assert run.audit.canaries is not None
    found, titles = run.audit.canaries, {entry.name: entry.title for entry in run.audit.applicable}
    rows = [
        ["not known" if group.repeats is None else f"{group.repeats:,}", f"{group.canaries:,}",
         *(_cell(group.criteria[name]) for name in titles)]
        for group in found.groups
    ]  # fmt: skip
    each = [
        [tag("span", one.canary, class_="name"), "" if one.repeats is None else f"{one.repeats:,}",
         "yes" if one.also_in_data else "",
         *(f"{one.samples[name]:,}" for name in titles)]
        for one in found.each
    ]  # fmt: skip
    head = ["Canary", "Copies", "Also in the data", *titles.values()]
    return join(
        tag("h3", run.label) if count > 1 else None,
        table(["Copies of each", "Canaries", *titles.values()], rows),
        folded("Samples that copy each canary", table(head, each)),
    )


def _cell(shares: CanaryShares) -> str:
    back, samples = shares.came_back, shares.samples
    return (
        f"{back.count:,} came back ({percent_range(back.wilson)}), "
        f"in {percent(samples.fraction)} of the samples ({percent_range(samples.wilson)})"
    )
