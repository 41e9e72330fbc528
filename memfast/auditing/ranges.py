"""Which values mean 0 and 1: the unit of distances, sets of different ranges, and sets brought to one range."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memfast.auditing.scan import Scan
from memfast.data import Source
from memfast.foundation.errors import InputError

Range = tuple[float, float]

# The ranges that images are stored in. A set belongs to the first that holds all its values.
USUAL: tuple[Range, ...] = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
# A set fills a usual range where its values come within this part of the width to both ends, and strays from it where
# they leave it by more.
MARGIN = 0.25
# Ranges of other values are worth a warning where one is this many times as wide as the other.
WIDER = 2.5
# Values this far outside a stated range, in parts of its width, are worth a warning.
OUTSIDE = 0.5


@dataclass(frozen=True)
class Units:
    """What distances are measured in.

    Attributes:
        low: the raw value of the training set that means 0.
        unit: raw units in one [0, 1] unit.
        words: both in words.
    """

    low: float
    unit: float
    words: str


class Rescaled:
    """A source whose values were brought to another range: ``value * scale + offset``, as floats.

    Args:
        source: the source.
        own: the values that mean 0 and 1 in it.
        target: the values that are to mean 0 and 1.
        dtype: of the new values.
    """

    def __init__(self, source: Source, own: Range, target: Range, dtype: np.dtype) -> None:
        self.source, self.dtype, self.own_range = source, dtype, own
        self.scale = (target[1] - target[0]) / (own[1] - own[0])
        self.offset = target[0] - own[0] * self.scale
        self.name, self.item_shape, self.labels, self.skipped = (
            source.name, source.item_shape, source.labels, source.skipped,
        )  # fmt: skip
        self.class_names: Sequence[str] | None = getattr(source, "class_names", None)
        self.conversion: Mapping[str, Any] | None = getattr(source, "conversion", None)
        self.not_read: Sequence[Any] = getattr(source, "not_read", ())

    def __len__(self) -> int:
        return len(self.source)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Items ``start`` to ``stop``."""
        return self._scaled(self.source.block(start, stop))

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The items of these indices, in this order."""
        return self._scaled(self.source.take(indices))

    def item_name(self, index: int) -> str:
        """The item's name."""
        return self.source.item_name(index)

    def content_hash(self) -> str:
        """The source's hash, and what was done to the values."""
        return f"{self.source.content_hash()} x {self.scale!r} + {self.offset!r} as {self.dtype}"

    def original(self, value: float) -> float:
        """The value that became ``value``."""
        return (value - self.offset) / self.scale

    def _scaled(self, items: np.ndarray) -> np.ndarray:
        if self.scale == 1.0 and self.offset == 0.0:
            return items.astype(self.dtype)
        return (items.astype(np.float64) * self.scale + self.offset).astype(self.dtype)


def bring_to_one_range(sources: Mapping[str, Source], ranges: Mapping[str, Range]) -> dict[str, Source]:
    """The sources, those with another stated range than the training set's brought to the training set's.

    Args:
        sources: the sets by name.
        ranges: the values that mean 0 and 1 in each set, for those that the caller stated.

    Raises:
        InputError: the training set's range is not stated, and cannot be known before the set is read.
    """
    byte = (0.0, 255.0)
    stated = {name: ranges.get(name, byte if source.dtype == np.uint8 else None) for name, source in sources.items()}
    target = stated["training"]
    if not ranges or all(one == target or name not in ranges for name, one in stated.items()):
        return dict(sources)
    unstated = [name for name, one in stated.items() if one is None]
    if target is None or unstated:
        raise InputError(
            "value_range", expected="the range of every set where sets differ",
            received=f"no range of the set {unstated[0]!r}", do=f"Add {unstated[0]!r} to value_range.",
        )  # fmt: skip
    floats = [source.dtype for source in sources.values() if source.dtype != np.uint8]
    dtype = np.dtype(np.result_type(*floats)) if floats else np.dtype(np.float32)
    return {
        name: source if stated[name] == target and source.dtype != np.uint8
        else Rescaled(source, stated[name] or target, target, dtype)
        for name, source in sources.items()
    }  # fmt: skip


def units_of(training: Source, found: Scan, stated: Range | None) -> Units:
    """The unit of distances: stated, 255 for uint8, or the usual range that holds the training set's values."""
    if stated is not None:
        low, high = stated
        return Units(low, high - low, f"values {low:g} to {high:g} are 0 to 1, as given")
    if training.dtype == np.uint8:
        return Units(0.0, 255.0, "uint8 values 0 to 255 are 0 to 1")
    if found.low >= 0 and found.high <= 1:
        return Units(0.0, 1.0, f"{training.dtype} values, taken as 0 to 1")
    if found.low >= -1 and found.high <= 1:
        return Units(-1.0, 2.0, f"{training.dtype} values -1 to 1 are 0 to 1")
    if found.low == found.high:
        words = f"{training.dtype} values, all {found.low:g} in the training set: distances in raw units"
        return Units(found.low, 1.0, words)
    words = f"{training.dtype} values; the training set's range {found.low:g} to {found.high:g} is 0 to 1"
    return Units(found.low, found.high - found.low, words)


def check_ranges(sources: Mapping[str, Source], scans: Mapping[str, Scan], ranges: Mapping[str, Range]) -> list[str]:
    """Warnings where the values of two sets, or of a set and its stated range, do not go together.

    Raises:
        InputError: two sets fill different ones of the usual ranges (0 to 1, -1 to 1, 0 to 255), and nobody said
            that they mean the same.
    """
    notes = []
    training = scans["training"]
    for name, found in scans.items():
        if name in ranges:
            notes += _outside(name, sources[name], found, ranges[name])
        elif name != "training" and "training" not in ranges:
            if sources[name].dtype == np.uint8:
                notes += _bytes(name, found, training)
            else:
                notes += _floats(name, found, training)
    return notes


def _floats(name: str, found: Scan, training: Scan) -> list[str]:
    own, usual = _usual(found), _usual(training)
    if own is not None and own == usual:
        return []
    if own is not None and usual is not None and _fills(found, own) and _fills(training, usual):
        raise InputError(
            name, expected=f"values of the training set's range, {_words(usual)}",
            received=f"values {found.low:g} to {found.high:g} (training set: {training.low:g} to {training.high:g})",
            do=f"Say which values mean 0 and 1 in each set: value_range={{'{name}': {own}, 'training': {usual}}} "
            f"(--value-range {name}={own[0]:g},{own[1]:g} --value-range training={usual[0]:g},{usual[1]:g}); or "
            f"value_range={usual} if both sets mean the same values.",
        )  # fmt: skip
    widths = sorted((found.high - found.low, training.high - training.low))
    apart = found.low > training.high or found.high < training.low
    strays = own is not None and usual is not None and not _within(found, usual)
    if widths[1] > WIDER * widths[0] or apart or strays:
        return [
            f"The values of the {_set(name)} set ({found.low:g} to {found.high:g}) and of the training set "
            f"({training.low:g} to {training.high:g}) have different ranges. If they are scaled differently, no copy "
            "can be found: give value_range for each set."
        ]
    return []


def _bytes(name: str, found: Scan, training: Scan) -> list[str]:
    if (found.high <= 1) == (training.high <= 1):
        return []
    return [
        f"uint8 values of the {_set(name)} set reach {found.high:g}, those of the training set {training.high:g}: one "
        "of them may hold values of 0 to 1 that were cut to whole numbers."
    ]


def _outside(name: str, source: Source, found: Scan, stated: Range) -> list[str]:
    low, high = raw_range(source, found)
    room = OUTSIDE * (stated[1] - stated[0])
    if low >= stated[0] - room and high <= stated[1] + room:
        return []
    return [f"The values of the {_set(name)} set ({low:g} to {high:g}) leave the range given for it, {_words(stated)}."]


def raw_range(source: Source, found: Scan) -> Range:
    """The smallest and the largest value of a set as it was given."""
    if isinstance(source, Rescaled):
        return source.original(found.low), source.original(found.high)
    return found.low, found.high


def _usual(found: Scan) -> Range | None:
    return next((one for one in USUAL if one[0] <= found.low and found.high <= one[1]), None)


def _within(found: Scan, usual: Range) -> bool:
    margin = MARGIN * (usual[1] - usual[0])
    return found.low >= usual[0] - margin and found.high <= usual[1] + margin


def _fills(found: Scan, usual: Range) -> bool:
    margin = MARGIN * (usual[1] - usual[0])
    return found.low <= usual[0] + margin and found.high >= usual[1] - margin


def _words(one: Range) -> str:
    return f"{one[0]:g} to {one[1]:g}"


def _set(name: str) -> str:
    return {"test": "held-out"}.get(name, name)
