"""The plain statement of an audit: what was tested, what was found, what is not proven."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from memfast.foundation.values import in_percent, percent
from memfast.results import AuditFigures, CanaryResults, CriterionResult, InputDescription, Statement

HIGH_FLOOR = 0.1
LOW_RECALL = 0.95
NAMED_REASONS = 6
# What follows from entries that were not read.
UNREAD = {
    "generated": "They were not audited.",
    "training": "Copies of them cannot be found.",
    "held-out": "They are not part of the floor.",
}


def with_statement(figures: AuditFigures) -> AuditFigures:
    """The figures with the sentences that follow from them."""
    statement = Statement(
        tuple(_tested(figures)), tuple(_found(figures)), tuple(_warnings(figures)), tuple(_not_proven(figures))
    )
    return replace(figures, statement=statement)


def canary_sentences(figures: AuditFigures) -> list[str]:
    """Which canaries came back, by the first criterion that applies: a sentence per repeat count."""
    if figures.canaries is None or figures.headline is None:
        return []
    return _canary_sentences(figures.canaries, figures.headline)


def unread_sentences(sets: Iterable[tuple[str, InputDescription | None]]) -> list[str]:
    """What was not read, a sentence per set that has such entries.

    Args:
        sets: what a sentence calls each set, and its description.
    """
    sentences = []
    for name, described in sets:
        unread = () if described is None else described.not_read
        if not unread:
            continue
        parts = [f"{one.count:,} {one.reason}" + _named(one.names, one.count) for one in unread[:NAMED_REASONS]]
        if len(unread) > NAMED_REASONS:
            parts.append(f"{sum(one.count for one in unread[NAMED_REASONS:]):,} for other reasons")
        total = sum(one.count for one in unread)
        verb = "was" if total == 1 else "were"
        sentences.append(
            f"{_counted(total, 'entry', 'entries')} of the {name} set {verb} not read: {'; '.join(parts)}. "
            + UNREAD.get(name, UNREAD["generated"])
        )
    return sentences


def sets_of(figures: AuditFigures) -> list[tuple[str, InputDescription | None]]:
    """What sentences call the sets, and their descriptions."""
    inputs = figures.inputs
    return [("generated", inputs.generated), ("training", inputs.training), ("held-out", inputs.held_out)]


def _named(names: tuple[str, ...], count: int) -> str:
    if not names:
        return ""
    return f" ({', '.join(names)}{', ...' if count > len(names) else ''})"


def _canary_sentences(canaries: CanaryResults, entry: CriterionResult) -> list[str]:
    sentences = []
    for group in canaries.groups:
        back, samples = group.criteria[entry.name].came_back, group.criteria[entry.name].samples
        low, high = (percent(end) for end in back.wilson)
        how_often = "" if group.repeats is None else f" that were in the training set {_times(group.repeats)}"
        sentences.append(
            f"Of {_counted(group.canaries, 'canary', 'canaries')}{how_often}, {back.count:,} came back "
            f"({percent(back.fraction)}, interval {low} to {high}), in {samples.count:,} of "
            f"{_counted(samples.total, 'sample', 'samples')} ({entry.title})."
        )
    return sentences


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _tested(figures: AuditFigures) -> list[str]:
    inputs = figures.inputs
    generated, training, held_out = inputs.generated, inputs.training, inputs.held_out
    how = {
        "exact": "by exact search in integers", "certified": "by exact search, certified in float64",
        "approximate": "by approximate search; the distances of what it found are exact",
    }[figures.search.exactness]  # fmt: skip
    sentences = [
        f"{generated.count:,} generated samples were each compared with all {training.distinct:,} different "
        f"training items, {how}, in their own values ({inputs.units}).",
    ]
    for name, one in sets_of(figures):
        sentences += _conversion(name, one)
    if held_out is None and figures.parameters.controls is False:
        sentences.append("No held-out set was given, and the controls were switched off: there is no floor.")
    elif held_out is None:
        sentences.append("No held-out set was given, and the training set is too small to stand in for one.")
    elif held_out.origin == "given":
        sentences.append(f"{held_out.count:,} held-out items went through the same test: the floor.")
    else:
        sentences.append(
            f"No held-out set was given. In its place, {held_out.count:,} training items were each compared with "
            + (
                "all the others. Give real held-out data for a floor that near-duplicates cannot raise."
                if training.near_duplicates is None
                else "all others that are no near-duplicates of it."
            )
        )
    control = figures.positive_control
    if control is not None:
        sentences.append(
            f"Copies of {control.planted} training items were planted in {len(control.rows)} ways, to learn "
            "which copies this audit would have found."
        )
    return sentences


def _conversion(name: str, described: InputDescription | None) -> list[str]:
    """What was done to the images of a set's files, where anything was."""
    done: Mapping[str, Any] | None = None if described is None else described.conversion
    if not done:
        return []
    parts = []
    others = {mode: count for mode, count in sorted(done.get("modes", {}).items()) if mode != done.get("to")}
    if others:
        listed = ", ".join(f"{count:,} of mode {mode}" for mode, count in others.items())
        parts.append(f"converted to {done.get('to')} ({listed}; transparency on white, 16 bits by the upper 8)")
    if done.get("turned"):
        parts.append(f"turned upright as their EXIF says ({done['turned']:,})")
    if done.get("side"):
        parts.append(f"cropped to a square and resized to {done['side']} x {done['side']} (Lanczos)")
    return [f"Images of the {name} set were {', '.join(parts)}."] if parts else []


def _found(figures: AuditFigures) -> list[str]:
    sentences = []
    confidence = in_percent(figures.parameters.confidence)
    for entry in figures.criteria:
        share, floor = entry.generated, entry.held_out
        if share is None:
            sentences.append(f"{entry.title}: not applied, because {entry.why_not}.")
            continue
        low, high = share.wilson
        text = f"{entry.title}: {share.count:,} of {share.total:,} samples ({percent(share.fraction)}, "
        text += f"{confidence} interval {percent(low)} to {percent(high)}) count as copies"
        if share.count:
            text += f", of {share.distinct_training_items:,} different training items"
        text += f"; held-out: {percent(floor.fraction)}." if floor else "; no held-out figure."
        sentences.append(text)
    test = figures.closer_than_held_out
    if test is not None:
        sentences.append(
            f"A generated sample is closer to the training set than a held-out item with chance {test.closer:.3f} "
            f"(0.5 is no difference; one-sided permutation p = {test.p_value:.2g})."
        )
    return sentences + canary_sentences(figures)


def _warnings(figures: AuditFigures) -> list[str]:
    sets = figures.inputs
    sentences = unread_sentences(sets_of(figures))
    sentences += _same_items(figures)
    sentences += _duplicates(figures)
    sentences += _overlaps(figures)
    if sets.generated.count > sets.generated.distinct:
        sentences.append(
            f"Only {sets.generated.distinct:,} of {sets.generated.count:,} generated samples are different."
        )
    for entry in figures.applicable:
        floor = entry.held_out
        if floor is not None and not entry.high_by_nature and floor.fraction >= HIGH_FLOOR:
            sentences.append(
                f"{entry.title} at {entry.threshold:.3g} flags {percent(floor.fraction)} of held-out data "
                "too: on this data its count says nothing by itself. See its curve, or choose another threshold."
            )
    recall = figures.search.recall
    if recall is not None and recall.estimate < LOW_RECALL:
        sentences.append(
            f"The approximate search found only {percent(recall.estimate)} of the nearest training items. Copies "
            "may be missing, and criteria that compare with the neighbourhood can flag too few or too many. Search "
            "more of the index, or exactly."
        )
    for name, one in sets_of(figures):
        if one is not None and one.skipped:
            name = name.replace("-", "_")
            sentences.append(f"{len(one.skipped):,} unreadable items of {name} were left out, as asked.")
    return sentences + list(figures.notes)


def _same_items(figures: AuditFigures) -> list[str]:
    """Sets that are one and the same."""
    sentences = []
    if figures.inputs.generated.is_training_set:
        sentences.append(
            "The generated set IS the training set (the same items). The figures say nothing about a model."
        )
    held_out = figures.inputs.held_out
    if held_out is not None and held_out.is_generated_set:
        sentences.append(
            "The held-out set IS the generated set (the same items). Its figures are those of the samples, so there is "
            "no floor: give data that the model has not seen."
        )
    return sentences


def _duplicates(figures: AuditFigures) -> list[str]:
    """Exact and near-duplicates in the training set."""
    training, sentences = figures.inputs.training, []
    if training.count > training.distinct:
        extra = training.count - training.distinct
        sentences.append(
            f"The training set holds {_counted(extra, 'exact duplicate', 'exact duplicates')}, in "
            f"{_counted(training.duplicate_groups, 'group', 'groups')}. Each group counted as one item in the test, "
            "since two equal nearest neighbours would hide a copy."
        )
    near = training.near_duplicates
    if near is not None:
        difference = figures.parameters.near_duplicates
        how = f"up to a root mean square difference of {difference:g}" if isinstance(difference, float) else "as given"
        found = f"{near.items:,} items in {_counted(near.groups, 'group', 'groups')}" if near.groups else "none found"
        sentences.append(
            f"Near-duplicates in the training set ({how}) count as one item: {found}. A sample's neighbours hold the "
            "nearest of each group."
        )
    return sentences


def _overlaps(figures: AuditFigures) -> list[str]:
    """Items that two sets share."""
    generated, held_out, sentences = figures.inputs.generated, figures.inputs.held_out, []
    if held_out is not None and held_out.in_training:
        sentences.append(
            f"{held_out.in_training:,} of {held_out.count:,} held-out items are exactly in the training set. "
            "They are no held-out data, and raise the floor."
        )
    if held_out is not None and generated.in_held_out and not held_out.is_generated_set:
        count = _counted(generated.in_held_out, "generated sample equals", "generated samples equal")
        sentences.append(f"{count} a held-out item in every value: the model may have seen held-out data.")
    if generated.exact_copies and not generated.is_training_set:
        count = _counted(generated.exact_copies, "generated sample equals", "generated samples equal")
        sentences.append(f"{count} a training item in every value.")
    return sentences


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _not_proven(figures: AuditFigures) -> list[str]:
    sentences = [
        "A sample that no criterion flags is not proven to be new: values are compared place by place, so copies that "
        "were moved, mirrored, cropped or recoloured can pass (the positive control says how many did).",
        "The figures are about these samples. Other seeds, prompts, guidance or snapshots of the model can copy more.",
        "A flagged sample is close to a training item by the stated definition; whether that is a copy in law or to an "
        "eye is a judgement that the pictures support and this page does not make.",
    ]
    total, first = figures.inputs.generated.count, figures.headline
    if first is not None and first.copies.count == 0:
        bound = first.copies.clopper_pearson.high
        sentences.insert(
            0, f"No copy among {total:,} samples does not mean none: at this count up to {percent(bound)} of what the "
            "model draws could be copies."
        )  # fmt: skip
    if figures.search.exactness == "approximate":
        sentences.append("The search was approximate: a nearer training item may have been missed.")
        recall = figures.search.recall
        if recall is not None:
            found, low, high = (percent(value) for value in (recall.estimate, recall.low, recall.high))
            sentences[-1] += (
                f" Measured on {recall.queries:,} samples, it found {found} of the {recall.k} nearest "
                f"({in_percent(recall.confidence)} interval {low} to {high})."
            )
        if figures.search.searched_exactly:
            sentences[-1] += (
                f" The index gave {figures.search.searched_exactly:,} samples too few neighbours; those were searched "
                "exactly."
            )
    return sentences
