"""How well each detector tells the memorized conditions from the others."""

from memfast.foundation.values import in_percent, percent, percent_range
from memfast.reports.charts import Line, line_chart
from memfast.reports.markup import Markup, join, table, tag
from memfast.reports.numbers import short
from memfast.results.trace import DetectorQuality, TraceFigures

MOST_CURVES = 6
WORDS = (
    "Detectors look at a run and give a score, higher for memorized. The area under the curve is the chance that a "
    "memorized condition scores above another one: 1 separates them, 0.5 is guessing. The last columns say how many "
    "memorized conditions are found while at most that share of the others is flagged."
)
FEW = "{fpr} of {negatives} is less than one: the threshold lies above all that are not memorized."


def detection(trace: TraceFigures) -> Markup | None:
    """The table of all detectors and the curves of the best."""
    found = ranked(trace)
    if not found:
        return None
    first = found[0][1]
    fpr = None if first.tpr_at_fpr is None else first.tpr_at_fpr.fpr
    head = ["Detector", "Area under the curve", "95 % interval"]
    head += [f"Found at {in_percent(fpr)} false alarms" if fpr is not None else "Found", "95 % interval"]
    rows = [[name, f"{entry.auc:.3f}", _range(entry.auc_interval), *_found(entry)] for name, entry in found]
    count = f"{short(first.positives)} memorized conditions, {short(first.negatives)} others."
    notes = count
    if fpr is not None and fpr * first.negatives < 1:
        notes += " " + FEW.format(negatives=short(first.negatives), fpr=in_percent(fpr))
    return join(
        tag("p", WORDS), tag("p", notes, class_="note"), table(head, rows),
        tag("div", _curves(found), class_="grid"),
    )  # fmt: skip


def ranked(trace: TraceFigures) -> list[tuple[str, DetectorQuality]]:
    """The detectors, the best first."""
    return sorted((trace.detection or {}).items(), key=lambda one: -one[1].auc)


def _curves(found: list[tuple[str, DetectorQuality]]) -> Markup | None:
    lines = [
        Line(name, entry.roc.fpr, entry.roc.tpr, number)
        for number, (name, entry) in enumerate(found[:MOST_CURVES], 1)
        if entry.roc is not None
    ]
    if not lines:
        return None
    return line_chart(
        [*lines, Line("guessing", [0.0, 1.0], [0.0, 1.0], 0, dashed=True)],
        title="Found against false alarms" + (f", the best {MOST_CURVES}" if len(found) > MOST_CURVES else ""),
        x_label="share of the others that is flagged", y_label="share of the memorized that is found",
        x_words=in_percent, y_words=in_percent,
    )  # fmt: skip


def _found(entry: DetectorQuality) -> list[str]:
    at = entry.tpr_at_fpr
    if at is None:
        return ["", ""]
    ends = known_range(at.interval)
    return ["" if at.tpr is None else percent(at.tpr), "" if ends is None else percent_range(ends)]


def _range(interval: tuple[float | None, float | None] | None) -> str:
    ends = known_range(interval)
    return "" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"


def known_range(interval: tuple[float | None, float | None] | None) -> tuple[float, float] | None:
    """An interval whose ends are both known, or None."""
    if interval is None or interval[0] is None or interval[1] is None:
        return None
    return interval[0], interval[1]
