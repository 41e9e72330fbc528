"""Several memory-mapped arrays that read as one: a folder of npy shards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memfast.data.source import ArraySource
from memfast.foundation.errors import InputError
from memfast.foundation.provenance import content_hash_of_parts


class ShardedSource(ArraySource):
    """A source over arrays of one item shape and dtype, one after the other; nothing is loaded before it is asked for.

    A shard has ``shape``, ``dtype``, ``len`` and an index like an array.

    Raises:
        InputError: shards of different item shapes or dtypes.
    """

    def __init__(self, shards: Sequence[Any], *, name: str) -> None:
        kinds = {(shard.shape[1:], shard.dtype) for shard in shards}
        if len(kinds) != 1:
            raise InputError(
                name, expected="npy shards of one item shape and dtype",
                received=" and ".join(sorted(f"{dtype} {list(shape)}" for shape, dtype in kinds)) or "no shards",
            )  # fmt: skip
        super().__init__(shards[0], name=name)
        self.shards = list(shards)
        self._starts = np.cumsum([0, *(len(shard) for shard in shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def block(self, start: int, stop: int) -> np.ndarray:
        """Items ``start`` to ``stop``, from as many shards as they lie in."""
        stop = min(stop, len(self))
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        parts = []
        while first < len(self.shards) and self._starts[first] < stop:
            offset = int(self._starts[first])
            parts.append(self.shards[first][max(0, start - offset) : stop - offset])
            first += 1
        if len(parts) == 1:
            return np.asarray(parts[0])
        return np.concatenate(parts) if parts else np.empty((0, *self.item_shape), self.dtype)

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The items of these indices, in this order."""
        indices = np.asarray(indices, dtype=np.int64)
        shard_of = np.searchsorted(self._starts, indices, "right") - 1
        items = np.empty((len(indices), *self.item_shape), self.dtype)
        for shard in np.unique(shard_of):
            here = shard_of == shard
            items[here] = self.shards[shard][indices[here] - self._starts[shard]]
        return items

    def content_hash(self) -> str:
        """SHA-256 of all items, equal to that of the same items in one array."""
        if self._hash is None:
            self._hash = content_hash_of_parts(self.shards, (len(self), *self.item_shape))
        return self._hash


def open_shards(folder: Path) -> ShardedSource:
    """The npy files of a folder, in the order of their names; each is mapped when it is read."""
    return ShardedSource([_NpyShard(file) for file in sorted(folder.glob("*.npy"))], name=str(folder))


class _NpyShard:
    """One npy file, mapped anew for each access: a map keeps its file open, and a process may hold about a thousand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        if array.shape != self.shape or array.dtype != self.dtype:
            raise InputError(
                str(self.path), expected=f"{self.dtype} {list(self.shape)}, as when it was opened",
                received=f"{array.dtype} {list(array.shape)}", do="It changed while it was read.",
            )  # fmt: skip
        return array[key]
