"""At a glance: what the trace says in a few figures and sentences."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memfast.foundation.values import in_percent, percent, percent_range
from memfast.reports.markup import Markup, join, tag
from memfast.reports.numbers import short
from memfast.reports.trace_sections.detection import known_range, ranked
from memfast.reports.trace_sections.deviation import correlation_words
from memfast.reports.trace_sections.groups import Group, groups, highlighted, mean_of, short_name
from memfast.results.trace import ConditionTrace, TraceFigures, TraceSampler

NO_VERDICT = (
    "A deviation says that the target came early, not why: a condition whose training items are all alike deviates "
    "too, without copying any of them. Compare with conditions that are known not to be memorized, and see the "
    "samples."
)


def glance(trace: TraceFigures) -> Markup:
    """Cards with the figures, sentences below."""
    cards = [card for card in (_deviating(trace), _correlation(trace), _detector(trace)) if card is not None]
    sentences = [sentence for sentence in (_setting(trace), *_means(trace), _largest(trace)) if sentence]
    return join(
        tag("div", cards, class_="cards") if cards else None,
        tag("ul", [tag("li", sentence) for sentence in sentences], class_="plain"),
        tag("p", NO_VERDICT, class_="note") if cards else None,
    )


def _setting(trace: TraceFigures) -> str:
    sampler, conditions = trace.sampler or TraceSampler(), trace.conditions
    seeds = _count(len(sampler.seeds), "seed")
    text = f"{_count(len(conditions), 'condition')}, {seeds} each, {short(sampler.steps)} steps"
    text += f" of {_method(sampler.method)} at guidance {_guidance(sampler.guidance)}."
    missing = sum(condition.has_target is False for condition in conditions)
    if sampler.target == "final":
        return text + (
            " Each sample is measured against its own finished state: that shows how early it was decided, not whose "
            "copy it is."
        )
    if missing:
        text += f" {_count(missing, 'condition')} without a target: figures that need one leave them out."
    return text


def _deviating(trace: TraceFigures) -> Markup | None:
    """The mean D1 of memorized conditions beside the others'; without labels, how many lie above 0."""
    parts = [group for group in groups(trace.conditions) if mean_of(group, "d1") is not None]
    if not parts:
        return None
    above = [_above(group) for group in parts]
    rows = [
        join(tag("dt", f"above 0: {group.name}"), tag("dd", text)) for group, text in zip(parts, above, strict=True)
    ]
    if len(parts) == 1:
        text = "conditions have D1 above 0: summed over the run, the target weighs more than the schedule gives it."
        return _card("Target ahead of the schedule", above[0], text, [])
    words = [f"{mean_of(group, 'd1'):.3g} ({group.name})" for group in parts[1:]]
    text = f"is the mean D1 of the {parts[0].name} conditions, against {' and '.join(words)}."
    return _card("Target ahead of the schedule", f"{mean_of(parts[0], 'd1'):.3g}", text, rows)


def _above(group: Group[ConditionTrace]) -> str:
    values = [condition.d1 for condition in group.members if condition.d1 is not None]
    return f"{sum(value > 0 for value in values):,} of {len(values):,}"


def _correlation(trace: TraceFigures) -> Markup | None:
    found = trace.correlations
    entry, other = (None, None) if found is None else (found.d1, found.d2)
    if entry is None or entry.pearson is None:
        return None
    parts = [tag("dt", "D1"), tag("dd", correlation_words(entry).rsplit(", ", 1)[0])]
    parts += [tag("dt", "D2"), tag("dd", correlation_words(other).rsplit(", ", 1)[0])] if other else []
    count = short(entry.n)
    text = f"is the correlation of D1 with the samples' similarity to their training items, over {count} conditions."
    return _card("Deviation and similarity", f"{entry.pearson:.2f}", text, parts)


def _detector(trace: TraceFigures) -> Markup | None:
    found = ranked(trace)
    if not found:
        return None
    entry = found[0][1]
    at, interval = entry.tpr_at_fpr, known_range(entry.auc_interval)
    parts = []
    if interval is not None:
        parts += [tag("dt", "95 % interval"), tag("dd", f"{interval[0]:.2f} to {interval[1]:.2f}")]
    if at is not None and at.tpr is not None:
        ends = known_range(at.interval)
        between = "" if ends is None else f" ({percent_range(ends)})"
        parts += [tag("dt", f"found at {in_percent(at.fpr)} false alarms"), tag("dd", percent(at.tpr) + between)]
    best = [other for other, one in found if one.auc == entry.auc]
    text = f"is the area under the curve of the best of {_count(len(found), 'detector')}: {', '.join(best)}."
    return _card("Detection", f"{entry.auc:.2f}", text, parts)


def _means(trace: TraceFigures) -> list[str]:
    """One sentence per measure that some group has."""
    parts = groups(trace.conditions)
    scale = _guidance(None if trace.sampler is None else trace.sampler.guidance)
    found = []
    factors = _each(parts, lambda group: mean_of(group, "overestimation"))
    if factors:
        found.append(f"The first estimate goes {factors} times as far as the target (guidance: {scale}).")
    ends = _each(parts, lambda group: _last(group, "diversity"))
    starts = _each(parts[:1], lambda group: _last(group, "diversity", 0), named=False)
    if ends and starts:
        found.append(f"Samples of one condition end {ends} apart; their noise started {starts} apart.")
    losses = _each(parts, lambda group: mean_of(group, "normalised_loss"))
    if losses:
        found.append(f"The normalised conditional loss is {losses}: near 0, one step from pure noise gives the target.")
    return found


def _largest(trace: TraceFigures) -> str:
    found = highlighted(trace)
    if not found:
        return ""
    names = ", ".join(f"{short_name(condition)} ({d1:.3g})" for condition, d1 in found)
    return f"No condition is labelled. The largest D1: {names}."


def _each(
    parts: Sequence[Group[ConditionTrace]],
    value: Callable[[Group[ConditionTrace]], float | None],
    *,
    named: bool = True,
) -> str:
    found = [(group, value(group)) for group in parts]
    alone = len(parts) == 1 or not named
    return " and ".join(
        f"{number:.3g}" + ("" if alone else f" ({group.name})") for group, number in found if number is not None
    )


def _last(group: Group[ConditionTrace], key: str, place: int = -1) -> float | None:
    curves = [getattr(one, key) for one in group.members]
    values = [curve[place] for curve in curves if curve and curve[place] is not None]
    return sum(values) / len(values) if values else None


def _method(value: Any) -> str:
    """A sampler's name, or its name and options."""
    return _guidance(value) if isinstance(value, Mapping) else str(value)


def _guidance(value: Any) -> str:
    """A scale, or a rule with its options."""
    if isinstance(value, Mapping):
        options = ", ".join(f"{key} {part:g}" for key, part in value.items() if isinstance(part, int | float))
        return f"{value.get('name')} ({options})" if options else str(value.get("name"))
    return f"{value:g}" if isinstance(value, int | float) else "unknown"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def _card(heading: str, figure: str, text: str, parts: Sequence[Markup]) -> Markup:
    return tag(
        "article", tag("h3", heading), tag("p", figure, class_="figure"), tag("p", text),
        tag("dl", parts) if parts else None, class_="card",
    )  # fmt: skip
