"""A source: items of one shape and dtype, read by index in blocks, with names. Every reader gives one."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np

from memfast.data.not_read import NotRead, printable
from memfast.data.pixels import ReadingRules
from memfast.foundation.provenance import content_hash

# What an object needs to count as a source; the rest of the protocol was added later.
_REQUIRED = (
    "name",
    "item_shape",
    "dtype",
    "labels",
    "skipped",
    "__len__",
    "block",
    "take",
    "item_name",
    "content_hash",
)


@runtime_checkable
class Source(Protocol):
    """What the rest of memfast asks of data.

    Attributes:
        name: what a person calls it, for example the folder.
        item_shape: shape of one item: ``(H, W)`` or ``(H, W, C)`` for images (channels last), ``(L,)`` for signals.
        dtype: uint8 for images, a floating dtype otherwise.
        labels: int64 ``[N]`` class labels, -1 where an item has none; or None.
        skipped: (name, reason) of each item that was left out on request.
        not_read: everything that was passed over, counted by reason; what was skipped is part of it.
    """

    name: str
    item_shape: tuple[int, ...]
    dtype: np.dtype
    labels: np.ndarray | None
    skipped: Sequence[tuple[str, str]]
    not_read: Sequence[NotRead]

    def __len__(self) -> int:
        """The number of items."""
        ...

    def block(self, start: int, stop: int) -> np.ndarray:
        """Items ``start`` to ``stop``, an array ``[stop - start, *item_shape]``."""
        ...

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The items of these indices, in this order."""
        ...

    def item_name(self, index: int) -> str:
        """A name for one item: its file, its row, its id."""
        ...

    def content_hash(self) -> str:
        """SHA-256 of all items in order."""
        ...


class ArraySource:
    """A source over an array in memory or a memory map ``[N, *item_shape]``.

    Attributes:
        class_names: names of the classes, which labels are then places in; or None.
        not_read: everything that was passed over, counted by reason.
        rules: how images became pixels; None for arrays, which are taken as they are.
        value_range: the values that mean 0 and 1, where that is known: (0, 255) for uint8, what the caller said for
            floats; otherwise None.

    >>> source = ArraySource(np.zeros((3, 8, 8), np.uint8), name="zeros")
    >>> len(source), source.item_shape, source.item_name(2)
    (3, (8, 8), '2')
    """

    class_names: Sequence[str] | None = None
    not_read: Sequence[NotRead] = ()
    rules: ReadingRules | None = None
    value_range: tuple[float, float] | None = None

    def __init__(
        self,
        array: np.ndarray,
        *,
        name: str = "array",
        labels: np.ndarray | None = None,
        names: Sequence[str] | None = None,
        skipped: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.array, self.name, self.labels, self.skipped = array, name, labels, skipped
        self._names = names
        self._hash: str | None = None
        self.item_shape = tuple(array.shape[1:])
        self.dtype = array.dtype
        if array.dtype == np.uint8:
            self.value_range = (0.0, 255.0)

    def __len__(self) -> int:
        return len(self.array)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Items ``start`` to ``stop``."""
        return np.asarray(self.array[start:stop])

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The items of these indices, in this order."""
        return np.asarray(self.array[np.asarray(indices, dtype=np.int64)])

    def item_name(self, index: int) -> str:
        """The item's name, or its index where it has none; bytes of a file name that are no UTF-8 as ``\\udcXX``."""
        return printable(str(self._names[index]) if self._names is not None else str(index))

    def content_hash(self) -> str:
        """SHA-256 of dtype, shape and values; computed once."""
        if self._hash is None:
            self._hash = content_hash(self.array)
        return self._hash


def is_source(value: Any) -> TypeGuard[Source]:
    """Whether ``value`` already is a source."""
    return not isinstance(value, type) and all(hasattr(value, name) for name in _REQUIRED)
