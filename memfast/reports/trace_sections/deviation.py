"""The deviation scores against how near the samples come to their target."""

from collections.abc import Mapping
from typing import Any

from memfast.reports.charts import Points, scatter_chart
from memfast.reports.markup import Markup, join, tag
from memfast.reports.numbers import short
from memfast.reports.trace_sections.groups import groups, inside

WORDS = (
    "D1 sums how far the target's weight lies above the schedule's line over all states, D2 how far the noise's "
    "weight lies below it. One point per condition, means over its seeds. If the samples of a condition are the "
    "nearer to its target the earlier that takes over, the points rise to the right. The normalised conditional "
    "loss is small where one step from pure noise already gives the target."
)
SCORES = (("d1", "D1"), ("d2", "D2"))


def deviation(trace: Mapping[str, Any]) -> Markup | None:
    """One scatter per score, with its correlation."""
    names = [inside(condition, "similarity", "name") for condition in trace["conditions"]]
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


def correlation_words(entry: Mapping[str, Any] | None) -> str:
    """A correlation with its interval and number.

    >>> correlation_words({"pearson": 0.912, "interval": [0.84, 0.95], "n": 40})
    'r = 0.91 (0.84 to 0.95), 40 conditions'
    """
    if not entry or entry.get("pearson") is None:
        return "no correlation"
    interval = entry.get("interval")
    between = f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval and None not in interval else ""
    return f"r = {entry['pearson']:.2f}{between}, {short(entry['n'])} conditions"


def _words(trace: Mapping[str, Any], key: str) -> str:
    return correlation_words(inside(trace, "correlations", key))


def _scatter(trace: Mapping[str, Any], key: str, title: str, x_label: str, y_label: str) -> Markup | None:
    sets = []
    for group in groups(trace):
        places = [
            (one[key], one["similarity"]["mean"])
            for one in group.members
            if one.get(key) is not None and inside(one, "similarity", "mean") is not None
        ]
        sets.append(Points(group.name, places, group.series or 1))
    if not any(len(one.places) for one in sets):
        return None
    return scatter_chart(sets, title=title, x_label=x_label, y_label=y_label)
