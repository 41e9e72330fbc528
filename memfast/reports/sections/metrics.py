"""Distribution metrics of the runs, side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from memfast.reports.markup import Markup, table
from memfast.reports.numbers import short
from memfast.reports.run import ReportRun

ARROWS = {"lower": "lower is better", "higher": "higher is better"}


def metrics(runs: Sequence[ReportRun]) -> Markup | None:
    """One row per metric, one column per run."""
    measured = [run for run in runs if run.metrics]
    names = list(dict.fromkeys(name for run in measured for name in run.metrics or {}))
    if not names:
        return None
    rows = []
    for name in names:
        entries = [(run.metrics or {}).get(name) for run in measured]
        known = next(entry for entry in entries if entry is not None)
        rows.append([name, *(_words(entry) for entry in entries), _direction(known)])
    return table(["Metric", *(run.label for run in measured), "Direction"], rows)


def _words(entry: Any) -> str:
    if entry is None:
        return ""
    if not isinstance(entry, Mapping):
        return short(float(entry))
    text = short(entry.get("value"))
    if entry.get("low") is not None and entry.get("high") is not None:
        text += f" ({short(entry['low'])} to {short(entry['high'])})"
    if entry.get("held_out") is not None:
        text += f"; held-out {short(entry['held_out'])}"
    return text


def _direction(entry: Any) -> str:
    direction = entry.get("direction", "") if isinstance(entry, Mapping) else ""
    return ARROWS.get(str(direction), str(direction))
