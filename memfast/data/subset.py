"""A part of a source, read from it as it is needed."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from memfast.data.source import Source


class Subset:
    """Some of a source's items, in order, for example a training set whose exact duplicates are left out.

    Args:
        source: the whole set.
        kept: int64 indices of the items that stay.
    """

    def __init__(self, source: Source, kept: np.ndarray) -> None:
        self.source, self.kept = source, kept
        self.name, self.item_shape, self.dtype = source.name, source.item_shape, source.dtype
        self.labels = None if source.labels is None else source.labels[kept]
        self.class_names = getattr(source, "class_names", None)
        self.skipped, self.not_read = source.skipped, getattr(source, "not_read", ())
        self.rules, self.value_range = getattr(source, "rules", None), getattr(source, "value_range", None)

    def __len__(self) -> int:
        return len(self.kept)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Items ``start`` to ``stop``."""
        return self.source.take(self.kept[start:stop])

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The items of these indices, in this order."""
        return self.source.take(self.kept[np.asarray(indices, dtype=np.int64)])

    def item_name(self, index: int) -> str:
        """The item's name in the whole set."""
        return self.source.item_name(int(self.kept[index]))

    def content_hash(self) -> str:
        """The whole set's hash, and which items stay."""
        return blake2b(self.source.content_hash().encode() + self.kept.tobytes(), digest_size=32).hexdigest()
