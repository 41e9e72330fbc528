"""The three sets of an audit: opened, checked against each other, and their units named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memfast.auditing.scan import Scan, scan
from memfast.data import Source, open_source
from memfast.features.sets import CHANNELS, ChannelsLast, kind_of
from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError

__all__ = ["CHANNELS", "ChannelsLast", "Inputs", "as_images", "kind_of", "open_inputs"]


@dataclass(frozen=True)
class Inputs:
    """What an audit works on.

    Attributes:
        generated: the generated samples.
        training: the training set, as given.
        test: the held-out set, or None.
        scans: what one pass over each set found, by the names above.
        kind: "images", "signals" or "values".
        low: the raw value that means 0.
        unit: raw units in one [0, 1] unit.
        units: both in words.
    """

    generated: Source
    training: Source
    test: Source | None
    scans: dict[str, Scan]
    kind: str
    low: float
    unit: float
    units: str

    @property
    def values(self) -> int:
        """Numbers in one item."""
        return int(np.prod(self.generated.item_shape, dtype=np.int64))


def open_inputs(
    generated: Any,
    training: Any,
    test: Any = None,
    *,
    value_range: tuple[float, float] | None = None,
    skip_bad: bool = False,
    progress: bool = False,
    known: Mapping[str, Scan] | None = None,
) -> Inputs:
    """Open the sets and refuse what cannot be compared.

    Args:
        generated: anything `memfast.data.open_source` reads.
        training: the same.
        test: the same, or None.
        value_range: the values that mean 0 and 1; None: (0, 255) for uint8; for floats (0, 1) or (-1, 1) where the
            training set lies within, otherwise its own smallest and largest value.
        skip_bad: leave unreadable images out, and count them.
        progress: show progress.
        known: content hash -> what an earlier pass over a set of that content found; it is not read again.

    Raises:
        InputError: an empty set, another shape or dtype than the training set's, or values that are not finite.
    """
    sources = {}
    for name, data in (("generated", generated), ("training", training), ("test", test)):
        if data is not None:
            sources[name] = open_source(data, skip_bad=skip_bad, name=name, progress=progress)
            if len(sources[name]) == 0:
                raise InputError(name, expected="at least one item", received="an empty set")
    reference = sources["training"]
    for name, source in sources.items():
        _check_same(name, source, reference)
    scans = {}
    for name, source in sources.items():
        found = known.get(source.content_hash()) if known else None
        scans[name] = scan(name, source, progress=progress) if found is None else found
    low, unit, units = _units(reference, scans["training"], value_range)
    kind = kind_of(reference.item_shape)
    return Inputs(sources["generated"], reference, sources.get("test"), scans, kind, low, unit, units)


def as_images(block: np.ndarray) -> np.ndarray:
    """Images ``[n, H, W]`` or ``[n, H, W, C]``, whichever way round the channels were; one channel is dropped."""
    if block.ndim == 4 and block.shape[-1] not in CHANNELS:
        block = np.moveaxis(block, 1, -1)
    return block[..., 0] if block.ndim == 4 and block.shape[-1] == 1 else block


def _check_same(name: str, source: Source, reference: Source) -> None:
    ours, theirs = tuple(source.item_shape), tuple(reference.item_shape)
    if ours != theirs:
        do = "Bring all sets to one size first, with the same resampling as the model's training data."
        if {len(ours), len(theirs)} == {2, 3} and ours[:2] == theirs[:2]:
            do = "One is gray and one in colour: bring both to one mode (--mode RGB, or open_source(..., mode='RGB'))."
        elif theirs in ((*ours[1:], ours[0]), (ours[-1], *ours[:-1])):
            do = "The channels lie on another axis: move them, for example with np.moveaxis(array, 1, -1)."
        raise InputError(
            name, expected=f"items of shape {list(theirs)}, as in the training set",
            received=f"items of shape {list(ours)}", do=do,
        )  # fmt: skip
    if (source.dtype == np.uint8) != (reference.dtype == np.uint8):
        raise InputError(
            name, expected=f"{reference.dtype} values, as in the training set", received=f"{source.dtype} values",
            do="Convert both to uint8 0..255, or both to floats of one range.",
        )  # fmt: skip


def _units(source: Source, found: Scan, value_range: tuple[float, float] | None) -> tuple[float, float, str]:
    if value_range is not None:
        if not isinstance(value_range, Sequence | np.ndarray) or len(value_range) != 2:
            raise InputError("value_range", expected="(low, high) with low < high", received=repr(value_range))
        low, high = (finite_number("value_range", value) for value in value_range)
        if low >= high:
            raise InputError("value_range", expected="(low, high) with low < high", received=str(value_range))
        return low, high - low, f"values {low:g} to {high:g} are 0 to 1, as given"
    if source.dtype == np.uint8:
        return 0.0, 255.0, "uint8 values 0 to 255 are 0 to 1"
    if found.low >= 0 and found.high <= 1:
        return 0.0, 1.0, f"{source.dtype} values, taken as 0 to 1"
    if found.low >= -1 and found.high <= 1:
        return -1.0, 2.0, f"{source.dtype} values -1 to 1 are 0 to 1"
    if found.low == found.high:
        return found.low, 1.0, f"{source.dtype} values, all {found.low:g} in the training set: distances in raw units"
    words = f"{source.dtype} values; the training set's range {found.low:g} to {found.high:g} is 0 to 1"
    return found.low, found.high - found.low, words
