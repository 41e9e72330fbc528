"""How much of each state is the training item and how much the initial noise, against what theory says."""

from memfast.reports.charts import Line
from memfast.reports.markup import Markup, join, tag
from memfast.reports.trace_sections.groups import Series, chart
from memfast.results.trace import ConditionTrace, Lines, TraceFigures

WORDS = (
    "Every state is split by least squares into a part of the {target}, a part of the initial noise and a rest. "
    "Dashed: the weights that the noise schedule itself gives the two. Dotted: the weights if every estimate of the"
    " clean sample were exactly the target (almost the same line where the first state is nearly pure noise). A "
    "weight of the target above the dashed line, and of the noise below it, mean that the target takes over too "
    "early: the areas in the second pair of charts are D1 and D2. Shaded: the middle 80\u00a0% of the conditions."
)
TARGETS = {"train": "training item", "final": "sample's own finished state"}
WEIGHTS = (
    ("w_target", "Weight of the target", "Target's weight above the schedule's", 1.0),
    ("w_initial", "Weight of the initial noise", "Noise's weight below the schedule's", -1.0),
)
LINES = (("schedule", "the schedule's own", True), ("constant_estimate", "estimate = target throughout", False))


def coefficients(trace: TraceFigures) -> Markup | None:
    """Weights of target and initial noise, their distance from the schedule's, and the rest."""
    charts = [
        chart(trace, weight(key), extra=_theory(trace, key), title=title, y_label="weight")
        for key, title, _, _ in WEIGHTS
    ]
    charts += [
        chart(trace, _beside(trace, key, sign), title=title, y_label="difference of weights")
        for key, _, title, sign in WEIGHTS
        if _lines(trace, "schedule") is not None
    ]
    charts.append(
        chart(trace, weight("residual"), title="What neither explains", y_label="root mean square of the rest")
    )
    if charts[0] is None:
        return None
    target = TARGETS.get(str(trace.sampler.target if trace.sampler else None), "target")
    return join(tag("p", WORDS.format(target=target)), tag("div", charts, class_="grid"))


def weight(key: str) -> Series:
    """Takes the mean of one weight out of a condition."""
    return lambda condition: None if getattr(condition, key) is None else getattr(condition, key).mean


def _lines(trace: TraceFigures, name: str) -> Lines | None:
    return None if trace.theory is None else getattr(trace.theory, name)


def _beside(trace: TraceFigures, key: str, sign: float) -> Series:
    """A weight's distance from its line: above for 1, below for -1."""
    lines = _lines(trace, "schedule")

    def series(condition: ConditionTrace) -> list[float | None] | None:
        values = weight(key)(condition)
        if values is None or lines is None:
            return None
        pairs = zip(values, getattr(lines, key), strict=True)
        return [None if value is None or own is None else sign * (value - own) for value, own in pairs]

    return series


def _theory(trace: TraceFigures, key: str) -> list[Line]:
    lines = []
    for name, words, dashed in LINES:
        theory = _lines(trace, name)
        if theory is not None:
            numbers = [float("nan") if value is None else float(value) for value in getattr(theory, key)]
            lines.append(Line(words, range(len(numbers)), numbers, 0, dashed=dashed, dotted=not dashed))
    return lines
