"""Plain values: what JSON holds, how people read a number, and the hash of a file."""

import dataclasses
import hashlib
import math
import os
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_CHUNK = 1 << 22
# Marks that turn the direction of writing, and those that belong to the letters around them.
_DIRECTIONS = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_JOINERS = "\u200c\u200d\u00ad"


def plain(value: Any) -> Any:
    """``value`` as strict JSON holds it: dataclasses and mappings as dicts, arrays and tuples as lists, NumPy's numbers
    as Python's, and None for a float that is not finite.

    >>> plain({"a": np.float32(0.5), "b": (1, float("nan")), "c": np.arange(2)})
    {'a': 0.5, 'b': [1, None], 'c': [0, 1]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def percent(fraction: float) -> str:
    """A fraction as per cent, with as many digits as it needs.

    >>> percent(0.0), percent(0.1234), percent(0.00042), percent(1.0)
    ('0 %', '12.3 %', '0.042 %', '100 %')
    """
    value = 100 * fraction
    if value == 0 or value >= 99.95:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if abs(value) >= 1 else f"{value:.2g} %"


def in_percent(value: float) -> str:
    """A chosen fraction (a confidence, a tick) as per cent, in all its digits.

    >>> in_percent(0.25), in_percent(0.995)
    ('25 %', '99.5 %')
    """
    return f"{100 * value:g} %"


def percent_range(interval: Sequence[float]) -> str:
    """Two fractions as one range.

    >>> percent_range((0.01, 0.05))
    '1.0 to 5.0 %'
    """
    low, high = interval
    return f"{percent(low)[:-2]} to {percent(high)}"


def one_line(text: str) -> str:
    """``text`` on one line, safe to print: characters that steer a terminal are shown as escapes.

    Names come from the data: an escape sequence in one could recolour or rewrite what a terminal shows, and marks that
    turn the direction of writing could hide how a name ends.

    >>> print(one_line("a\\x1b[2Jb\\nc"))
    a\\x1b[2Jb\\nc
    """
    if text.isprintable() and not any(character in _DIRECTIONS for character in text):
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    harmless = character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"
    if harmless and character not in _DIRECTIONS:
        return character
    return character.encode("unicode_escape").decode()


def file_hash(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def first_difference(old: Any, new: Any, path: str, *, was: str = "in the checkpoint", now: str = "now") -> str | None:
    """The first place where two plain values differ, in words; None where they agree.

    Args:
        old: the value on record.
        new: the value of this run.
        path: what the error calls the whole, for example ``"training"``.
        was: where ``old`` stands.
        now: where ``new`` stands.

    >>> first_difference({"a": [1, 2]}, {"a": [1, 3]}, "run")
    'run.a[1] is 2 in the checkpoint and 3 now'
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(name for name in new if name not in old)]:
            if name not in new:
                return f"{path}.{name} is {old[name]!r} {was} and missing {now}"
            if name not in old:
                return f"{path}.{name} is missing {was} and {new[name]!r} {now}"
            difference = first_difference(old[name], new[name], f"{path}.{name}", was=was, now=now)
            if difference:
                return difference
        return None
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        if len(old) != len(new):
            return f"{path} has {len(old)} entries {was} and {len(new)} {now}"
        differences = (
            first_difference(a, b, f"{path}[{i}]", was=was, now=now)
            for i, (a, b) in enumerate(zip(old, new, strict=True))
        )
        return next((difference for difference in differences if difference), None)
    return None if old == new else f"{path} is {old!r} {was} and {new!r} {now}"
