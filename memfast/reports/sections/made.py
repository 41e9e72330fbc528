"""What was run: inputs with their hashes, parameters, versions, machine."""

from collections.abc import Mapping, Sequence
from typing import Any

from memfast.reports.markup import Markup, folded, join, table, tag
from memfast.reports.run import ReportRun


def made(runs: Sequence[ReportRun]) -> Markup | None:
    """One table of inputs and one of settings per run."""
    audited = [run for run in runs if run.audit is not None]
    if not audited:
        return None
    return join([_of_run(run, len(audited)) for run in audited])


def _of_run(run: ReportRun, runs: int) -> Markup:
    audit = run.audit
    assert audit is not None
    rows = []
    for name, words in (("generated", "Generated"), ("training", "Training"), ("held_out", "Held-out")):
        one = audit["inputs"][name]
        if one is not None:
            shape = " x ".join(map(str, one["item_shape"])) + f" {one['dtype']}" if "item_shape" in one else ""
            digest = tag("code", one.get("sha256", ""))
            rows.append([words, one["name"], f"{one['count']:,}", f"{one['distinct']:,}", shape, digest])
    provenance = audit["provenance"]
    settings = {
        **_flat(audit["parameters"]), "search": audit["search"]["exactness"],
        **_flat(audit["search"]["recall"], "recall: "),
        "memfast commit": provenance["memfast_commit"] or "not a checkout", "result schema": audit["schema"],
        **_flat(provenance["versions"], "version of "), **_flat(provenance["machine"], "machine: "),
    }  # fmt: skip
    inputs = table(["Set", "Name", "Items", "Different", "Each item", "SHA-256 of the content"], rows)
    values = table(["What", "Value"], [[key, str(value)] for key, value in settings.items()])
    details = folded("Settings, versions, machine", values)
    training = audit["inputs"]["training"]
    near = training.get("near_duplicates") or {"listed": [], "groups": 0}
    return join(
        tag("h3", run.label) if runs > 1 else None,
        inputs,
        details,
        _groups("Exact duplicates", training["duplicates"], training["duplicate_groups"]),
        _groups("Near-duplicates", near["listed"], near["groups"]),
    )


def _groups(words: str, listed: Sequence[Sequence[str]], total: int) -> Markup | None:
    if not listed:
        return None
    shown = tag("ul", [tag("li", ", ".join(map(str, group))) for group in listed])
    return folded(f"{words} in the training set ({len(listed)} of {total} groups)", shown)


def _flat(values: Mapping[str, Any] | None, prefix: str = "") -> dict[str, Any]:
    return {f"{prefix}{key}": value for key, value in (values or {}).items() if value is not None}
