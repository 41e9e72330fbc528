"""Canaries: known items added to the training data at chosen repeat counts, to see the instrument at work."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memfast.data.reading import open_source
from memfast.data.source import Source
from memfast.foundation.errors import CheckpointError, InputError, first_line
from memfast.runtime.files import Content, finish_generation, json_text, read_json, write_together

ITEMS_FILE, REPEATS_FILE = "canaries.npy", "canaries.json"


class Canaries:
    """Known items and how often each is added.

    Training on ``canaries.added_to(data)`` shows which come back, in the monitor's log and in
    ``memfast.audit(..., canaries=canaries)``: with many repeats they should. If one of many repeats never does, the
    training has not got far, or the audit is at fault.

    Args:
        items: ``[K, *item_shape]``, in the data's dtype and shape; anything ``memfast.data.open_source`` reads.
        repeats: how often each is added: one number for all, or K of them.

    >>> data = open_source(np.zeros((5, 4, 4), np.uint8))
    >>> canaries = Canaries(np.full((2, 4, 4), 255, np.uint8), repeats=[1, 3])
    >>> more = canaries.added_to(data)
    >>> len(more), more.item_name(6)
    (9, 'canary 1, copy 1 of 3')
    """

    def __init__(self, items: Any, repeats: int | Sequence[int] = 10) -> None:
        self.items = open_source(items)
        given = np.asarray(repeats)
        if given.dtype.kind not in "iu" or given.shape not in ((), (len(self.items),)):
            expected = f"one whole number, or one for each of {len(self.items)} canaries"
            raise InputError("repeats", expected=expected, received=repr(repeats))
        counts = np.broadcast_to(given.astype(np.int64), (len(self.items),))
        if (counts < 1).any():
            raise InputError("repeats", expected="at least 1 for each canary", received=str(counts.tolist()))
        self.repeats = counts.copy()

    def __len__(self) -> int:
        return len(self.items)

    def added_to(self, data: Any) -> "WithCanaries":
        """The data followed by every copy of every canary.

        Raises:
            InputError: the canaries have another shape or dtype.
        """
        source = open_source(data)
        expected, received = (f"{np.dtype(s.dtype).name} items {s.item_shape}" for s in (source, self.items))
        if expected != received:
            raise InputError("canaries", expected=expected, received=received)
        return WithCanaries(source, self)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write them into a run's folder, where ``load`` and ``memfast audit --run`` find them."""
        contents: dict[str, Content] = {
            ITEMS_FILE: self.items.block(0, len(self)),
            REPEATS_FILE: json_text(self.describe()),
        }
        write_together(folder, contents)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Canaries":
        """Read what ``save`` wrote.

        Raises:
            InputError: the folder holds none.
            CheckpointError: they are damaged.
        """
        finish_generation(folder)
        path = Path(folder) / REPEATS_FILE
        if not path.is_file():
            raise InputError(
                str(folder), expected=f"a run trained with canaries ({REPEATS_FILE})", received="no such file"
            )
        try:
            described = read_json(path)
            canaries = cls(str(Path(folder) / ITEMS_FILE), described["repeats"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise CheckpointError(f"{path}: missing or damaged ({first_line(error)}).") from error
        if canaries.describe() != described:
            raise InputError(str(path), expected="the hash of the canaries beside it", received="another")
        return canaries

    def describe(self) -> dict[str, Any]:
        """Plain values for ``run.json``."""
        return {"hash": self.items.content_hash(), "repeats": self.repeats.tolist()}


class WithCanaries:
    """A source and the copies behind it.

    Attributes:
        canaries: the canaries.
        first: the index of the first copy of each, int64 ``[K]``.
    """

    def __init__(self, source: Source, canaries: Canaries) -> None:
        self._source, self.canaries = source, canaries
        self.first = len(source) + np.cumsum(canaries.repeats) - canaries.repeats
        self._which = np.repeat(np.arange(len(canaries)), canaries.repeats)
        self._copies = np.concatenate([np.arange(count) for count in canaries.repeats])
        self.name = f"{source.name} with {len(canaries)} canaries"
        self.item_shape, self.dtype, self.skipped = source.item_shape, source.dtype, source.skipped
        self.conversion, self.not_read = getattr(source, "conversion", None), getattr(source, "not_read", ())
        self.rules, self.value_range = getattr(source, "rules", None), getattr(source, "value_range", None)
        self.class_names: Sequence[str] | None = getattr(source, "class_names", None)
        self.labels: np.ndarray | None = None
        if source.labels is not None:
            own = canaries.items.labels
            added = np.zeros(len(canaries), np.int64) if own is None else own
            self.labels = np.concatenate([source.labels, added[self._which]])

    def __len__(self) -> int:
        return len(self._source) + len(self._which)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Items ``start`` to ``stop``."""
        return self.take(np.arange(start, min(stop, len(self))))

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The items of these indices."""
        indices = np.asarray(indices, dtype=np.int64)
        items = np.empty((len(indices), *self.item_shape), self.dtype)
        added = indices >= len(self._source)
        if (~added).any():
            items[~added] = self._source.take(indices[~added])
        if added.any():
            items[added] = self.canaries.items.take(self._which[indices[added] - len(self._source)])
        return items

    def item_name(self, index: int) -> str:
        """The item's own name, or which canary and copy it is."""
        if index < len(self._source):
            return self._source.item_name(index)
        place = index - len(self._source)
        canary = int(self._which[place])
        if self.canaries.repeats[canary] == 1:
            return f"canary {canary}"
        return f"canary {canary}, copy {int(self._copies[place]) + 1} of {int(self.canaries.repeats[canary])}"

    def content_hash(self) -> str:
        """A hash of the data's and the canaries' hashes and the repeats."""
        parts = [self._source.content_hash(), self.canaries.items.content_hash(), str(self.canaries.repeats.tolist())]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()
