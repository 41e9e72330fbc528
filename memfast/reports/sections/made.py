"""What was run: inputs with their hashes, parameters, versions, machine."""

from collections.abc import Mapping, Sequence
from typing import Any

from memfast.foundation.values import plain
from memfast.reports.markup import Markup, folded, join, table, tag
from memfast.reports.numbers import short
from memfast.reports.run import ReportRun
from memfast.results import AuditFigures, InputDescription

HEAD = ["Set", "Name", "Items", "Different", "Each item", "Values", "0 and 1 are", "SHA-256 of the content"]


def made(runs: Sequence[ReportRun]) -> Markup | None:
    """One table of inputs and one of settings per run."""
    audited = [run for run in runs if run.audit is not None]
    if not audited:
        return None
    return join([_of_run(run.label, run.audit, len(audited)) for run in audited if run.audit])


def _of_run(label: str, audit: AuditFigures, runs: int) -> Markup:
    inputs = audit.inputs
    sets = [("Generated", inputs.generated), ("Training", inputs.training), ("Held-out", inputs.held_out)]
    provenance = audit.provenance
    settings = {
        **_flat(plain(audit.parameters)), "search": audit.search.exactness,
        **_flat(plain(audit.search.recall), "recall: "), "result schema": audit.schema,
    }  # fmt: skip
    if provenance is not None:
        settings |= {
            "memfast commit": provenance.memfast_commit or "not a checkout",
            **_flat(provenance.versions, "version of "), **_flat(provenance.machine, "machine: "),
        }  # fmt: skip
    training = inputs.training
    near = training.near_duplicates
    return join(
        tag("h3", label) if runs > 1 else None,
        table(HEAD, [_row(words, one) for words, one in sets if one is not None]),
        [_not_read(words, one) for words, one in sets if one is not None],
        folded(
            "Settings, versions, machine", table(["What", "Value"], [[key, str(one)] for key, one in settings.items()])
        ),
        _groups("Exact duplicates", training.duplicates, training.duplicate_groups),
        None if near is None else _groups("Near-duplicates", near.listed, near.groups),
    )


def _row(words: str, one: InputDescription) -> list[Any]:
    shape = "" if one.item_shape is None else " x ".join(map(str, one.item_shape)) + f" {one.dtype}"
    values = "" if one.low is None or one.high is None else f"{short(one.low)} to {short(one.high)}"
    unit = "" if one.value_range is None else " and ".join(short(end) for end in one.value_range)
    digest = tag("code", one.sha256 or "")
    return [
        words,
        tag("span", one.name, class_="name"),
        f"{one.count:,}",
        f"{one.distinct:,}",
        shape,
        values,
        unit,
        digest,
    ]


def _not_read(words: str, one: InputDescription) -> Markup | None:
    if not one.not_read:
        return None
    total = sum(entry.count for entry in one.not_read)
    rows = [
        [
            tag("span", entry.reason, class_="name"),
            f"{entry.count:,}",
            tag("span", ", ".join(entry.names), class_="name"),
        ]
        for entry in one.not_read
    ]
    heading = f"{words}: {total:,} {'entry was' if total == 1 else 'entries were'} not read"
    return folded(heading, table(["Why", "Entries", "For example"], rows))


def _groups(words: str, listed: Sequence[Sequence[str]], total: int) -> Markup | None:
    if not listed:
        return None
    shown = tag("ul", [tag("li", ", ".join(map(str, group))) for group in listed], class_="plain")
    return folded(f"{words} in the training set ({len(listed)} of {total} groups)", shown)


def _flat(values: Mapping[str, Any] | None, prefix: str = "") -> dict[str, Any]:
    return {f"{prefix}{key}": value for key, value in (values or {}).items() if value is not None}
