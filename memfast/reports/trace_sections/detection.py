"""How well each detector tells the memorized conditions from the others."""

from collections.abc import Mapping
from typing import Any

from memfast.foundation.values import percent, percent_range
from memfast.reports.charts import Line, line_chart
from memfast.reports.charts.axes import in_percent
from memfast.reports.markup import Markup, join, table, tag
from memfast.reports.numbers import short
from memfast.reports.trace_sections.groups import inside

MOST_CURVES = 6
WORDS = (
    "Detectors look at a run and give a score, higher for memorized. The area under the curve is the chance that a "
    "memorized condition scores above another one: 1 separates them, 0.5 is guessing. The last columns say how many "
    "memorized conditions are found while at most that share of the others is flagged."
)
FEW = "{fpr} of {negatives} is less than one: the threshold lies above all that are not memorized."


def detection(trace: Mapping[str, Any]) -> Markup | None:
    """The table of all detectors and the curves of the best."""
    found = ranked(trace)
    if not found:
        return None
    first = found[0][1]
    fpr = inside(first, "tpr_at_fpr", "fpr")
    head = ["Detector", "Area under the curve", "95 % interval"]
    head += [f"Found at {in_percent(fpr)} false alarms" if fpr is not None else "Found", "95 % interval"]
    rows = [[name, f"{entry['auc']:.3f}", _range(entry.get("auc_interval")), *_found(entry)] for name, entry in found]
    count = f"{short(first['positives'])} memorized conditions, {short(first['negatives'])} others."
    few = fpr is not None and fpr * first["negatives"] < 1
    notes = count + (" " + FEW.format(negatives=short(first["negatives"]), fpr=in_percent(fpr)) if few else "")
    return join(
        tag("p", WORDS), tag("p", notes, class_="note"), table(head, rows),
        tag("div", _curves(found), class_="grid"),
    )  # fmt: skip


def ranked(trace: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The detectors, the best first."""
    found = [(name, entry) for name, entry in (trace.get("detection") or {}).items() if entry.get("auc") is not None]
    return sorted(found, key=lambda one: -one[1]["auc"])


def _curves(found: list[tuple[str, Mapping[str, Any]]]) -> Markup | None:
    lines = [
        Line(name, entry["roc"]["fpr"], entry["roc"]["tpr"], number)
        for number, (name, entry) in enumerate(found[:MOST_CURVES], 1)
        if entry.get("roc")
    ]
    if not lines:
        return None
    return line_chart(
        [*lines, Line("guessing", [0.0, 1.0], [0.0, 1.0], 0, dashed=True)],
        title="Found against false alarms" + (f", the best {MOST_CURVES}" if len(found) > MOST_CURVES else ""),
        x_label="share of the others that is flagged", y_label="share of the memorized that is found",
        x_words=in_percent, y_words=in_percent,
    )  # fmt: skip


def _found(entry: Mapping[str, Any]) -> list[str]:
    at = entry.get("tpr_at_fpr") or {}
    tpr, interval = at.get("tpr"), at.get("interval")
    return ["" if tpr is None else percent(tpr), percent_range(interval) if interval and None not in interval else ""]


def _range(interval: list[float] | None) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}" if interval and None not in interval else ""
