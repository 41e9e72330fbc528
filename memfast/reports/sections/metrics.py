"""Distribution metrics of the runs, side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from memfast.reports.markup import Markup, join, table, tag
from memfast.reports.numbers import short
from memfast.reports.run import ReportRun

BETTER = {"lower": "↓ lower is better", "higher": "↑ higher is better", "none": ""}
COPYING = {"lower": "↓ falls", "higher": "↑ rises", "none": ""}


def metrics(runs: Sequence[ReportRun]) -> Markup | None:
    """One row per metric, one column per run, the floor beside it."""
    measured = [run for run in runs if run.metrics]
    names = list(dict.fromkeys(name for run in measured for name in run.metrics or {}))
    if not names:
        return None
    rows = []
    for name in names:
        entries = [(run.metrics or {}).get(name) for run in measured]
        known: Mapping[str, Any] = next(entry for entry in entries if entry is not None)
        rows.append(
            [
                tag("span", name, title=known.get("summary")),
                *(_words(entry) for entry in entries),
                " / ".join(
                    dict.fromkeys(short(entry["floor"]) for entry in entries if entry and _known(entry, "floor"))
                ),
                BETTER.get(str(known.get("better")), ""),
                COPYING.get(str(known.get("copying")), ""),
            ]
        )
    head = ["Metric", *(run.label for run in measured), "Held-out data instead", "Direction", "With copies it"]
    words = (
        "Distances between whole sets, with 95 % intervals where the metric has one. The held-out column is the same "
        "number with held-out data in the place of generated samples: what a perfect model would reach."
    )
    return join(tag("p", words), table(head, rows))


def _words(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return ""
    if not _known(entry, "value"):
        return f"not computed: {entry['reason']}" if _known(entry, "reason") else "not finite"
    text = short(entry["value"])
    if _known(entry, "interval"):
        low, high = entry["interval"]
        text += f" ({short(low)} to {short(high)})"
    return text


def _known(entry: Mapping[str, Any], key: str) -> bool:
    return entry.get(key) is not None
