"""Class labels: whole numbers as they are, names as places in a sorted list, and a note for whatever is neither."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memfast.data.listing import Listing, one_spelling
from memfast.data.not_read import PassedOver
from memfast.data.splits import WORDS
from memfast.foundation.errors import InputError

UNKNOWN = -1  # the label of an item without one, in a set where others have one
JSON_KEYS = ("label", "labels", "class", "cls", "class_name")
NO_LABEL, BAD_LABEL = "missing labels", "labels that are neither whole numbers nor names"
UNREADABLE_LABEL = "labels that cannot be read"
_LEAST, _GREATEST = -(2**63), 2**63 - 1
_EXACT = 2**53  # whole floats beyond it stand for several integers
_MAX_LABEL_BYTES = 64 << 20
_METADATA = ("metadata.csv", "metadata.jsonl")
_DECIMAL = re.compile(r"[-+]?\d+\.\d*(e[-+]?\d+)?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Labels:
    """Labels of the items of a set.

    Attributes:
        values: int64 ``[N]``, -1 for an item without a label; or None.
        class_names: what the values are places in, or None for bare numbers.
    """

    values: np.ndarray | None = None
    class_names: list[str] | None = None


def encode_labels(
    given: Sequence[Any] | np.ndarray | None,
    passed: PassedOver,
    name_of: Callable[[int], str] = str,
    class_names: Sequence[str] | None = None,
) -> Labels:
    """Labels as int64.

    Whole numbers stay as they are, whole floats below 2**53 too. Text becomes a place in the sorted list of the
    distinct texts, unless every text is a number: then it counts as that number, as ``1.0`` in a csv file does. A set
    with other labels, such as fractions, has none.

    Args:
        given: one label per item; None, NaN or empty text where an item has none.
        passed: gets the items without a label and the labels that were not understood.
        name_of: an item's name, for the notes.
        class_names: names of the classes, if the labels are numbers that stand for them.

    >>> encode_labels(["cat", None, "ant"], PassedOver())
    Labels(values=array([ 1, -1,  0]), class_names=['ant', 'cat'])
    >>> encode_labels(["7", "3"], PassedOver()).values.tolist()
    [7, 3]
    """
    if given is None:
        return Labels()
    names = None if class_names is None else [one_spelling(str(name)) for name in class_names]
    if isinstance(given, np.ndarray) and given.ndim == 1 and given.dtype.kind in "ib":
        return Labels(given.astype(np.int64), names)
    values = [_plain(value) for value in given]
    if all(value is None or value is _BAD or _is_numeral(value) for value in values):
        values = [_plain(float(value)) if _is_decimal(value) else value for value in values]
    bad = [place for place, value in enumerate(values) if value is _BAD]
    if bad:
        for place in bad:
            passed.add(BAD_LABEL, name_of(place))
        return Labels()
    present = [value for value in values if value is not None]
    if not present:
        return Labels()
    for place, value in enumerate(values):
        if value is None:
            passed.add(NO_LABEL, name_of(place))
    numbers = [_number(value) for value in present]
    if all(number is not None for number in numbers):
        rest = iter(numbers)
        return Labels(np.array([UNKNOWN if value is None else next(rest) for value in values], np.int64), names)
    distinct = sorted({str(value) for value in present})
    places = {name: place for place, name in enumerate(distinct)}
    return Labels(np.array([UNKNOWN if value is None else places[str(value)] for value in values], np.int64), distinct)


def labels_beside(listing: Listing, images: Sequence[str]) -> list[Any] | None:
    """One label per image, from the files beside them or from the folders they lie in; None where nothing says any.

    In this order: ``dataset.json`` (EDM, StyleGAN); ``metadata.csv`` or ``metadata.jsonl`` (imagefolder of Hugging
    Face); a ``.cls`` or ``.json`` file of an image's name (webdataset, img2dataset); class folders, where every image
    lies in exactly one folder below a common one, except for a few in the common one itself.
    """
    described = _dataset_json(listing, images)
    if described is not None:
        return described or None
    for values in (_metadata(listing, images), _companions(listing, images)):
        if values is not None:
            return values
    return None if _numbered_shards(listing) else _class_folders(images)


def _dataset_json(listing: Listing, images: Sequence[str]) -> list[Any] | None:
    """Labels by ``dataset.json``; an empty list where it is there and gives none, None where it is not there."""
    places = [name for name in listing.names if name.rsplit("/", 1)[-1] == "dataset.json"]
    if len(places) != 1:
        return None
    place = places[0]
    try:
        given = read_json(listing.read(place))["labels"]
        known = dict(given) if given else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{listing.what}: {place}", expected='an object with "labels", as EDM and StyleGAN write it',
            received=str(error) or type(error).__name__, do="Repair or remove it.",
        ) from error  # fmt: skip
    listing.use([place])
    folder = place[: -len("dataset.json")]
    values = [known.get(name.removeprefix(folder)) for name in images]
    return values if any(value is not None for value in values) else []


def _metadata(listing: Listing, images: Sequence[str]) -> list[Any] | None:
    """Labels by tables with a column ``file_name``, each for the folder that it lies in and those below."""
    known: dict[str, Any] = {}
    for place in listing.names:
        if place.rsplit("/", 1)[-1] not in _METADATA:
            continue
        try:
            rows = _rows_of(place, listing.read(place))
        except (OSError, ValueError, csv.Error):
            listing.passed.add(UNREADABLE_LABEL, place)
            listing.use([place])
            continue
        folder = place[: place.rfind("/") + 1]
        found = {
            folder + one_spelling(str(row["file_name"])): label
            for row in rows
            if row.get("file_name") and (label := _label_of(row)) not in (None, "")
        }
        if found:
            listing.use([place])
        known |= found
    if not known:
        return None
    values = [known.get(one_spelling(name)) for name in images]
    return values if any(value is not None for value in values) else None


def _rows_of(name: str, content: bytes) -> list[dict[str, Any]]:
    """The rows of a csv file with a header, or of a file with one JSON object a line."""
    text = content.decode("utf-8-sig")
    if name.endswith(".csv"):
        return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    rows = [read_json(line.encode()) for line in text.split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a line that is not a JSON object")
    return rows


def _companions(listing: Listing, images: Sequence[str]) -> list[Any] | None:
    if not listing.ending((".cls", ".json")):
        return None
    values = [_companion(listing, image) for image in images]
    return values if any(value is not None for value in values) else None


def _companion(listing: Listing, image: str) -> Any:
    folder_end = image.rfind("/") + 1
    # webdataset's key ends at the first dot of the file's name; elsewhere names have dots of their own.
    stems = dict.fromkeys((image[: image.index(".", folder_end + 1)], image[: image.rindex(".")]))
    for name in (f"{stem}{suffix}" for suffix in (".cls", ".json") for stem in stems):
        if name not in listing:
            continue
        try:
            content = listing.read(name)
            label = _label_of_text(content) if name.endswith(".cls") else _label_of(read_json(content))
        except (OSError, ValueError):
            listing.passed.add(UNREADABLE_LABEL, name)
            listing.use([name])
            continue
        if label is not None and label != "":
            listing.use([name])
            return label
    return None


def read_json(content: bytes) -> Any:
    """JSON from bytes.

    Raises:
        ValueError: it is too large, nested too deep, or not JSON.
    """
    if len(content) > 4 * _MAX_LABEL_BYTES:
        raise ValueError(f"{len(content):,} bytes of JSON")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deep") from error


def _label_of_text(content: bytes) -> int | str:
    text = content.decode("utf-8").strip()
    return int(text) if text.isdecimal() and len(text) < 20 else text


def _label_of(described: Any) -> Any:
    if isinstance(described, dict):
        return next((described[key] for key in JSON_KEYS if described.get(key) is not None), None)
    return described if isinstance(described, (int, str)) else None


def _numbered_shards(listing: Listing) -> bool:
    """Whether img2dataset wrote the folders: numbered parts with their statistics beside them, not classes."""
    return any(name.endswith("_stats.json") and name[: -len("_stats.json")].isdecimal() for name in listing.names)


def _class_folders(images: Sequence[str]) -> list[Any] | None:
    paths = [image.split("/") for image in images]
    depth = max(map(len, paths))
    classified = [path for path in paths if len(path) == depth]
    root = classified[0][: depth - 2]
    loose = sum(path[:-1] == root for path in paths)
    if depth < 2 or any(path[: depth - 2] != root for path in classified) or len(classified) + loose < len(paths):
        return None
    names = {one_spelling(path[-2]) for path in classified}
    if len(names) == 1 and names.pop().lower() in WORDS:  # a folder "train" alone says the split, not a class
        return None
    if loose and (len({path[-2] for path in classified}) < 2 or loose >= len(classified)):
        return None
    return [_ClassName(one_spelling(path[-2])) if len(path) == depth else None for path in paths]


class _ClassName(str):
    """The name of a folder: a name even where it is made of digits."""

    __slots__ = ()


class _Bad:
    """What is neither a number nor a name."""


_BAD = _Bad()


def _plain(value: Any) -> Any:
    """A label as int, str, None (there is none) or ``_BAD``."""
    if isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "detach"):
        if getattr(value, "shape", None) not in ((), (1,)):
            return _BAD
        value = value.item()
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            return _BAD
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _EXACT else _BAD
    if isinstance(value, str):
        return (value if isinstance(value, _ClassName) else one_spelling(value.strip())) or None
    return _BAD


def _is_decimal(value: Any) -> bool:
    """Whether a text is a number with a decimal point."""
    return isinstance(value, str) and not isinstance(value, _ClassName) and _DECIMAL.fullmatch(value) is not None


def _is_numeral(value: Any) -> bool:
    return _is_decimal(value) or _number(value) is not None


def _number(value: Any) -> int | None:
    if isinstance(value, _ClassName):
        return None
    if isinstance(value, str):
        digits = value.removeprefix("-")
        whole = digits.isascii() and digits.isdecimal() and len(digits) < 20 and (digits == "0" or digits[0] != "0")
        if not whole:
            return None
        value = int(value)
    return value if _LEAST <= value <= _GREATEST else None
