"""What ``memfast trace`` follows: conditions from a file or a list of labels, and the target of each."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memfast.foundation.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from memfast.data import Source

READABLE = "a .txt, .json, .jsonl or .csv file of conditions"
PROMPT_KEYS = ("prompt", "caption", "text")
FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": None, "none": None}


@dataclass(frozen=True)
class TracedCondition:
    """One condition to follow.

    Attributes:
        name: what tables and figures call it.
        label: its class, for a run of ``memfast train``.
        prompt: its text, for a pipeline.
        memorized: what is known of it.
        target: the row number or the name of its training item among the targets.
    """

    name: str
    label: int | None = None
    prompt: str | None = None
    memorized: bool | None = None
    target: int | str | None = None


def read_conditions(path: Path) -> list[TracedCondition]:
    """Conditions from a file.

    A text file holds one prompt (or label) per line. The others hold entries with ``prompt`` (or ``caption``, ``text``)
    or ``label``, and maybe ``name``, ``memorized`` and ``target``; other keys are left aside.

    Raises:
        InputError: no such file, another format, an entry without prompt and label; the entry is named.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        entries = _entries(path, text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise InputError(f"--prompts {path}", expected=READABLE, received=str(error)) from error
    if not entries:
        raise InputError(f"--prompts {path}", expected="at least one condition", received="none")
    return [_condition(f"--prompts {path}, entry {number}", entry) for number, entry in enumerate(entries, 1)]


def of_labels(labels: Sequence[int]) -> list[TracedCondition]:
    """One condition per class."""
    return [TracedCondition(f"class {label}", label=label) for label in labels]


def targets_of(
    conditions: Sequence[TracedCondition], source: "Source", classes: int | None = None
) -> list["np.ndarray | None"]:
    """The training item of each condition.

    By its ``target``, a row number or an item's name (with or without its suffix); where no condition says which, in
    order, if there are as many items as conditions, or by label, if there are as many as classes.

    Raises:
        InputError: a row or name that is not there, or another number of items.
    """
    rows = [None if one.target is None else _row(one, source) for one in conditions]
    if all(row is None for row in rows):
        if len(source) == len(conditions):
            rows = list(range(len(source)))
        elif classes is not None and len(source) == classes and all(one.label is not None for one in conditions):
            rows = [one.label for one in conditions]
        else:
            wanted = f"{len(conditions)} items, one per condition" + (
                f", or {classes}, one per class" if classes else ""
            )
            raise InputError(
                "--targets", expected=wanted, received=f"{len(source)} items in {source.name}",
                do="Or say which in the conditions' file: \"target\": a row number or an item's name.",
            )  # fmt: skip
    return [None if row is None else source.take([row])[0] for row in rows]


def _row(condition: TracedCondition, source: "Source") -> int:
    target = condition.target
    if isinstance(target, int) and 0 <= target < len(source):
        return target
    if isinstance(target, str):
        names = [source.item_name(index) for index in range(len(source))]
        for same in (lambda name: name == target, lambda name: Path(name).stem == Path(target).stem):
            found = [index for index, name in enumerate(names) if same(name)]
            if len(found) == 1:
                return found[0]
    there = f"a row from 0 to {len(source) - 1} or an item's name in {source.name}"
    raise InputError(f"target of {condition.name!r}", expected=there, received=repr(target))


def _entries(path: Path, text: str) -> list[Any]:
    suffix = path.suffix.lower()
    if suffix == ".txt":
        return [line.strip() for line in text.splitlines() if line.strip()]
    if suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    if suffix == ".json":
        found = json.loads(text)
        if not isinstance(found, list):
            raise InputError(f"--prompts {path}", expected="a list of conditions", received=type(found).__name__)
        return found
    if suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text)))
    raise InputError(f"--prompts {path}", expected=READABLE, received=f"a {path.suffix or 'nameless'} file")


def _condition(what: str, entry: Any) -> TracedCondition:
    if isinstance(entry, int) and not isinstance(entry, bool):
        entry = {"label": entry}
    if isinstance(entry, str):
        entry = {"prompt": entry, "label": entry if entry.isdecimal() else None}
    if not isinstance(entry, Mapping):
        raise InputError(what, expected="a prompt, a label, or an entry with one of them", received=repr(entry))
    prompt = next((str(entry[key]) for key in PROMPT_KEYS if entry.get(key) not in (None, "")), None)
    label = _whole(what, "label", entry.get("label"))
    if prompt is None and label is None:
        raise InputError(what, expected="a prompt or a label", received=f"keys {', '.join(map(str, entry)) or 'none'}")
    name = entry.get("name") or prompt or f"class {label}"
    return TracedCondition(
        str(name), label, prompt, _flag(what, entry.get("memorized")), _target(what, entry.get("target"))
    )


def _flag(what: str, value: Any) -> bool | None:
    text = str(value).strip().lower()
    if text not in FLAGS:
        raise InputError(f"{what}, memorized", expected="true, false or nothing", received=repr(value))
    return FLAGS[text]


def _whole(what: str, key: str, value: Any) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not str(value).strip().isdecimal():
        raise InputError(f"{what}, {key}", expected="a whole number from 0", received=repr(value))
    return int(value)


def _target(what: str, value: Any) -> int | str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and not value.strip().isdecimal():
        return value
    return _whole(what, "target", value)
