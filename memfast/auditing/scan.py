"""One pass over a set: is every value finite, what is its range, which items are exactly equal."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from memfast.data import Source
from memfast.foundation.errors import InputError
from memfast.foundation.progress import Progress

BLOCK_BYTES = 1 << 26
DIGEST_BYTES = 16


@dataclass(frozen=True)
class Scan:
    """What the pass found.

    Attributes:
        low: smallest value.
        high: largest value.
        digests: one digest per item; equal items have equal digests.
        groups: exact duplicates: item indices, ascending, of each group of two or more equal items.
    """

    low: float
    high: float
    digests: Sequence[bytes]
    groups: tuple[tuple[int, ...], ...]

    @property
    def firsts(self) -> np.ndarray:
        """The first of every group and every single item, int64, ascending."""
        keep = np.ones(len(self.digests), bool)
        for group in self.groups:
            keep[list(group[1:])] = False
        return np.flatnonzero(keep)


def scan(name: str, source: Source, *, progress: bool = False) -> Scan:
    """Read a set once.

    Raises:
        InputError: an item holds NaN or an infinity; it is named.
    """
    low, high = np.inf, -np.inf
    digests: list[bytes] = []
    floating = np.issubdtype(source.dtype, np.floating)
    rows = _rows_of_a_block(source)
    with Progress(f"reading {name}", len(source), "items", show=progress) as bar:
        for start in range(0, len(source), rows):
            block = source.block(start, min(start + rows, len(source)))
            block = np.ascontiguousarray(block).reshape(len(block), -1)
            if floating:
                _check_finite(name, source, block, start)
                block = block + block.dtype.type(0)  # minus zero equals zero and must have its bytes
            low, high = min(low, float(block.min())), max(high, float(block.max()))
            digests.extend(blake2b(row.data, digest_size=DIGEST_BYTES).digest() for row in block)
            bar.advance(len(block))
    return Scan(low, high, digests, _groups(source, digests))


def _rows_of_a_block(source: Source) -> int:
    return max(1, BLOCK_BYTES // max(1, int(np.prod(source.item_shape, dtype=np.int64)) * source.dtype.itemsize))


def _groups(source: Source, digests: Sequence[bytes]) -> tuple[tuple[int, ...], ...]:
    """Items of equal digest, compared by value before they count as equal."""
    first: dict[bytes, int] = {}
    found: dict[bytes, list[int]] = {}
    for index, digest in enumerate(digests):
        if digest in first:
            found.setdefault(digest, [first[digest]]).append(index)
        else:
            first[digest] = index
    groups, step = [], _rows_of_a_block(source)
    for members in found.values():
        head, equal = source.take(np.asarray(members[:1]))[0], []
        for start in range(0, len(members), step):
            some = members[start : start + step]
            items = source.take(np.asarray(some))
            equal += [index for index, item in zip(some, items, strict=True) if np.array_equal(item, head)]
        if len(equal) > 1:
            groups.append(tuple(equal))
    return tuple(groups)


def _check_finite(name: str, source: Source, block: np.ndarray, start: int) -> None:
    finite = np.isfinite(block).all(axis=1)
    if not finite.all():
        worst = start + int(np.argmin(finite))
        raise InputError(
            f"{name}, item {source.item_name(worst)}", expected="finite values", received="NaN or an infinity",
            do=f"{int((~finite).sum())} items of this block have them; repair or leave them out.",
        )  # fmt: skip
