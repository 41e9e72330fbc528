"""The splits of a data set (train, validation, test): found in the names of files, chosen, never mixed."""

import re
from collections.abc import Sequence

from memfast.data.not_read import PassedOver
from memfast.foundation.errors import InputError

WORDS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
OTHER_SPLITS = "files of other splits"
_IN_A_NAME = re.compile(rf"(?:^|[-_. ])({'|'.join(WORDS)})(?=[-_. ]|\d|$)")
HUB_NAME = re.compile(r"^(\w+(?:\.\w+)*)-\d{5}-of-\d{5}")


def split_of(name: str, *, folders_only: bool = False) -> str | None:
    """The split that a path names in its folders or its file name, as the Hugging Face hub lays files out.

    >>> split_of("data/train-00000-of-00002.parquet"), split_of("val/a.tar"), split_of("contest.tar")
    ('train', 'validation', None)
    """
    *folders, file = name.lower().split("/")
    for folder in reversed(folders):
        if folder in WORDS:
            return WORDS[folder]
    if folders_only:
        return None
    found = _IN_A_NAME.search(file)
    if found is not None:
        return WORDS[found[1]]
    numbered = HUB_NAME.match(file)
    return None if numbered is None else numbered[1]


def choose_split(
    what: str, names: Sequence[str], wanted: str | None, passed: PassedOver, *, folders_only: bool = False
) -> tuple[list[str], str | None]:
    """The files of one split, and its name.

    Args:
        what: the data, for errors.
        names: files, in order.
        wanted: the split that was asked for, or None: then there may be only one.
        passed: gets the files of the other splits.
        folders_only: whether only folders name splits; files of images are often called ``test_3.png``.

    Raises:
        InputError: several splits and none chosen, or no such split.
    """
    splits = [split_of(name, folders_only=folders_only) for name in names]
    found = sorted({split for split in splits if split is not None})
    if folders_only and None in splits:
        found = []
    if wanted is None:
        if len(found) > 1:
            raise InputError(
                what, expected="one split", received=f"several: {', '.join(found)}",
                do=f"Choose one: PATH::{found[0]}, or split={found[0]!r}.",
            )  # fmt: skip
        return list(names), None
    split = canonical(wanted)
    if split not in found:
        raise InputError(
            what, expected=f"the split {wanted!r}", received=", ".join(found) or "files that name no split"
        )
    for name, one in zip(names, splits, strict=True):
        if one != split:
            passed.add(OTHER_SPLITS, name)
    return [name for name, one in zip(names, splits, strict=True) if one == split], split


def canonical(split: str) -> str:
    """One spelling for the usual names of a split: ``val`` is ``validation``."""
    return WORDS.get(split.lower(), split.lower())
