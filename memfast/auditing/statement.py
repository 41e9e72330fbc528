"""The plain statement of an audit: what was tested, what was found, what is not proven."""

from typing import Any

HIGH_FLOOR = 0.1
LOW_RECALL = 0.95
HIGH_BY_NATURE = ("authenticity",)


def statement(result: dict[str, Any]) -> dict[str, list[str]]:
    """Sentences under "tested", "found", "warnings" and "not_proven", from the figures of a result."""
    return {
        "tested": _tested(result), "found": _found(result), "warnings": _warnings(result),
        "not_proven": _not_proven(result),
    }  # fmt: skip


def percent(fraction: float) -> str:
    """A fraction as per cent with as many digits as it needs.

    >>> percent(0.0), percent(0.123), percent(0.00042)
    ('0 %', '12.3 %', '0.042 %')
    """
    value = 100 * fraction
    if value == 0 or value >= 99.95:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if value >= 1 else f"{value:.2g} %"


def canary_sentences(result: dict[str, Any]) -> list[str]:
    """Which canaries came back, by the first criterion that applies: a sentence per repeat count."""
    canaries = result.get("canaries")
    entry = next((entry for entry in result["criteria"] if entry["applicable"]), None)
    if canaries is None or entry is None:
        return []
    sentences = []
    for group in canaries["groups"]:
        back, samples = (group["criteria"][entry["name"]][name] for name in ("came_back", "samples"))
        low, high = (percent(end) for end in back["wilson"])
        how_often = "" if group["repeats"] is None else f" that were in the training set {_times(group['repeats'])}"
        sentences.append(
            f"Of {_counted(group['canaries'], 'canary', 'canaries')}{how_often}, {back['count']:,} came back "
            f"({percent(back['fraction'])}, interval {low} to {high}), in {samples['count']:,} of "
            f"{_counted(samples['total'], 'sample', 'samples')} ({entry['title']})."
        )
    return sentences


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _tested(result: dict[str, Any]) -> list[str]:
    inputs, search = result["inputs"], result["search"]
    generated, training, held_out = inputs["generated"], inputs["training"], inputs["held_out"]
    how = {
        "exact": "by exact search in integers", "certified": "by exact search, certified in float64",
        "approximate": "by approximate search; the distances of what it found are exact",
    }[search["exactness"]]  # fmt: skip
    sentences = [
        f"{generated['count']:,} generated samples were each compared with all {training['distinct']:,} different "
        f"training items, {how}, in their own values ({inputs['units']}).",
    ]
    for name, one in (("generated", generated), ("training", training), ("held-out", held_out)):
        sentences += _conversion(name, one)
    if held_out is None:
        sentences.append("No held-out set was given, and the training set is too small to stand in for one.")
    elif held_out["origin"] == "given":
        sentences.append(f"{held_out['count']:,} held-out items went through the same test: the floor.")
    else:
        sentences.append(
            f"No held-out set was given. In its place, {held_out['count']:,} training items were each compared with "
            + (
                "all the others. Give real held-out data for a floor that near-duplicates cannot raise."
                if training["near_duplicates"] is None
                else "all others that are no near-duplicates of it."
            )
        )
    if result["positive_control"] is not None:
        control = result["positive_control"]
        sentences.append(
            f"Copies of {control['planted']} training items were planted in {len(control['rows'])} ways, to learn "
            "which copies this audit would have found."
        )
    return sentences


def _conversion(name: str, described: dict[str, Any] | None) -> list[str]:
    """What was done to the images of a set's files, where anything was."""
    done = (described or {}).get("conversion")
    if done is None:
        return []
    parts = []
    others = {mode: count for mode, count in sorted(done["modes"].items()) if mode != done["to"]}
    if others:
        listed = ", ".join(f"{count:,} of mode {mode}" for mode, count in others.items())
        parts.append(f"converted to {done['to']} ({listed}; transparency on white, 16 bits by the upper 8)")
    if done["turned"]:
        parts.append(f"turned upright as their EXIF says ({done['turned']:,})")
    if done["side"]:
        parts.append(f"cropped to a square and resized to {done['side']} x {done['side']} (Lanczos)")
    return [f"Images of the {name} set were {', '.join(parts)}."] if parts else []


def _found(result: dict[str, Any]) -> list[str]:
    sentences = []
    for entry in result["criteria"]:
        if not entry["applicable"]:
            sentences.append(f"{entry['title']}: not applied, because {entry['why_not']}.")
            continue
        share, floor = entry["generated"], entry["held_out"]
        low, high = share["wilson"]
        confidence = f"{100 * result['parameters']['confidence']:g} %"
        text = f"{entry['title']}: {share['count']:,} of {share['total']:,} samples ({percent(share['fraction'])}, "
        text += f"{confidence} interval {percent(low)} to {percent(high)}) count as copies"
        if share["count"]:
            text += f", of {share['distinct_training_items']:,} different training items"
        text += f"; held-out: {percent(floor['fraction'])}." if floor else "; no held-out figure."
        sentences.append(text)
    test = result["closer_than_held_out"]
    if test is not None:
        sentences.append(
            f"A generated sample is closer to the training set than a held-out item with chance {test['closer']:.3f} "
            f"(0.5 is no difference; one-sided permutation p = {test['p_value']:.2g})."
        )
    return sentences + canary_sentences(result)


def _warnings(result: dict[str, Any]) -> list[str]:
    inputs = result["inputs"]
    generated, training, held_out = inputs["generated"], inputs["training"], inputs["held_out"]
    sentences = []
    if generated["is_training_set"]:
        sentences.append(
            "The generated set IS the training set (the same items). The figures say nothing about a model."
        )
    if training["count"] > training["distinct"]:
        extra = training["count"] - training["distinct"]
        sentences.append(
            f"The training set holds {_counted(extra, 'exact duplicate', 'exact duplicates')}, in "
            f"{_counted(training['duplicate_groups'], 'group', 'groups')}. Each group counted as one item in the test, "
            "since two equal nearest neighbours would hide a copy."
        )
    near = training["near_duplicates"]
    if near is not None:
        joined = result["parameters"]["near_duplicates"]
        how = "as given" if joined == "given" else f"up to a root mean square difference of {joined:g}"
        found = (
            f"{near['items']:,} items in {_counted(near['groups'], 'group', 'groups')}"
            if near["groups"]
            else "none found"
        )
        sentences.append(
            f"Near-duplicates in the training set ({how}) count as one item: {found}. A sample's neighbours hold the "
            "nearest of each group."
        )
    if held_out is not None and held_out["in_training"]:
        sentences.append(
            f"{held_out['in_training']:,} of {held_out['count']:,} held-out items are exactly in the training set. "
            "They are no held-out data, and raise the floor."
        )
    if generated["exact_copies"] and not generated["is_training_set"]:
        count = _counted(generated["exact_copies"], "generated sample equals", "generated samples equal")
        sentences.append(f"{count} a training item in every value.")
    if generated["count"] > generated["distinct"]:
        sentences.append(f"Only {generated['distinct']:,} of {generated['count']:,} generated samples are different.")
    for entry in result["criteria"]:
        floor = entry["held_out"] if entry["applicable"] else None
        if floor is not None and entry["name"] not in HIGH_BY_NATURE and floor["fraction"] >= HIGH_FLOOR:
            sentences.append(
                f"{entry['title']} at {entry['threshold']:.3g} flags {percent(floor['fraction'])} of held-out data "
                "too: on this data its count says nothing by itself. See its curve, or choose another threshold."
            )
    recall = result["search"]["recall"]
    if recall is not None and recall["estimate"] < LOW_RECALL:
        sentences.append(
            f"The approximate search found only {percent(recall['estimate'])} of the nearest training items. Copies "
            "may be missing, and criteria that compare with the neighbourhood can flag too few or too many. Search "
            "more of the index, or exactly."
        )
    for name, one in inputs.items():
        if isinstance(one, dict) and one.get("skipped"):
            sentences.append(f"{len(one['skipped']):,} unreadable items of {name} were left out, as asked.")
    return sentences + list(result["notes"])


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _not_proven(result: dict[str, Any]) -> list[str]:
    sentences = [
        "A sample that no criterion flags is not proven to be new: values are compared place by place, so copies that "
        "were moved, mirrored, cropped or recoloured can pass (the positive control says how many did).",
        "The figures are about these samples. Other seeds, prompts, guidance or snapshots of the model can copy more.",
        "A flagged sample is close to a training item by the stated definition; whether that is a copy in law or to an "
        "eye is a judgement that the pictures support and this page does not make.",
    ]
    total = result["inputs"]["generated"]["count"]
    first = next((entry for entry in result["criteria"] if entry["applicable"]), None)
    if first is not None and first["generated"]["count"] == 0:
        bound = first["generated"]["clopper_pearson"][1]
        sentences.insert(
            0, f"No copy among {total:,} samples does not mean none: at this count up to {percent(bound)} of what the "
            "model draws could be copies."
        )  # fmt: skip
    if result["search"]["exactness"] == "approximate":
        sentences.append("The search was approximate: a nearer training item may have been missed.")
        if recall := result["search"]["recall"]:
            found, low, high = (percent(recall[name]) for name in ("estimate", "low", "high"))
            sentences[-1] += (
                f" Measured on {recall['queries']:,} samples, it found {found} of the {recall['k']} nearest "
                f"({100 * recall['confidence']:g} % interval {low} to {high})."
            )
        if again := result["search"].get("searched_exactly"):
            sentences[-1] += f" The index gave {again:,} samples too few neighbours; those were searched exactly."
    return sentences
