"""The deviation scores against how near the samples come to their target."""

from memfast.reports.charts import Points, scatter_chart
from memfast.reports.markup import Markup, join, tag
from memfast.reports.numbers import short
from memfast.reports.trace_sections.groups import groups
from memfast.results.trace import Correlation, TraceFigures

WORDS = (
    "D1 sums how far the target's weight lies above the schedule's line over all states, D2 how far the noise's "
    "weight lies below it. One point per condition, means over its seeds. If the samples of a condition are the "
    "nearer to its target the earlier that takes over, the points rise to the right. The normalised conditional "
    "loss is small where one step from pure noise already gives the target."
)
SCORES = (("d1", "D1"), ("d2", "D2"))


def deviation(trace: TraceFigures) -> Markup | None:
    """One scatter per score, with its correlation."""
    names = [condition.similarity.name for condition in trace.conditions]
    name = next((name for name in names if name), "unnamed")
    charts = [
        _scatter(trace, key, f"{title} against similarity: {_words(trace, key)}", title, f"similarity ({name})")
        for key, title in SCORES
    ]
    charts.append(
        _scatter(trace, "normalised_loss", "Normalised conditional loss against similarity",
                 "normalised conditional loss",
                 f"similarity ({name})")
    )  # fmt: skip
    if not any(charts):
        return None
    return join(tag("p", WORDS), tag("div", charts, class_="grid"))


def correlation_words(entry: Correlation | None) -> str:
    """A correlation with its interval and number.

    >>> correlation_words(Correlation(0.912, (0.84, 0.95), 40))
    'r = 0.91 (0.84 to 0.95), 40 conditions'
    """
    if entry is None or entry.pearson is None:
        return "no correlation"
    between = "" if entry.interval is None else f" ({entry.interval[0]:.2f} to {entry.interval[1]:.2f})"
    return f"r = {entry.pearson:.2f}{between}, {short(entry.n)} conditions"


def _words(trace: TraceFigures, key: str) -> str:
    return correlation_words(None if trace.correlations is None else getattr(trace.correlations, key))


def _scatter(trace: TraceFigures, key: str, title: str, x_label: str, y_label: str) -> Markup | None:
    sets = []
    for group in groups(trace.conditions):
        places = [
            (getattr(one, key), one.similarity.mean)
            for one in group.members
            if getattr(one, key) is not None and one.similarity.mean is not None
        ]
        sets.append(Points(group.name, places, group.series or 1))
    if not any(len(one.places) for one in sets):
        return None
    return scatter_chart(sets, title=title, x_label=x_label, y_label=y_label)
