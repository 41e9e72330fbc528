"""Several files of arrays that read as one: shards of many items each."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from memfast.data.array_files import open_arrays
from memfast.data.memory import check_items
from memfast.data.source import ArraySource
from memfast.foundation.errors import InputError
from memfast.foundation.provenance import content_hash_of_parts

MAPPED_AT_ONCE = 8  # each map keeps a file descriptor


class ArrayFile:
    """The array of one file, read when it is asked for; npy files are memory-mapped.

    Args:
        path: the file.
        key: which of several arrays.

    Attributes:
        key: name of the array.
        shape: of the array.
        dtype: of the array.
        others: names of the file's other arrays.
        mapped: whether reading it again takes no memory.

    Raises:
        InputError: it is damaged.
    """

    def __init__(self, path: Path, key: str | None = None) -> None:
        self.path = path
        arrays = open_arrays(path, path.suffix.lower(), str(path))
        self.key = arrays.choose(key)
        self.others = [name for name in (*arrays.names, *arrays.rest) if name != self.key]
        found = arrays.read(self.key)
        self.shape, self.dtype = found.shape, found.dtype
        self.mapped = path.suffix.lower() == ".npy"

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def rows(self) -> np.ndarray:
        """The array."""
        found = open_arrays(self.path, self.path.suffix.lower(), str(self.path)).read(self.key)
        if found.shape != self.shape or found.dtype != self.dtype:
            raise InputError(str(self.path), expected="the file that was opened", received="another: it was replaced")
        return found


class ShardedSource(ArraySource):
    """A source over arrays of one item shape and dtype, one after the other; nothing is loaded before it is asked for.

    A shard has ``shape``, ``dtype``, ``len`` and an index like an array.

    Raises:
        InputError: shards of different item shapes or dtypes.
    """

    def __init__(
        self,
        shards: Sequence[np.ndarray | ArrayFile],
        *,
        name: str,
        labels: np.ndarray | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        kinds = {(shard.shape[1:], shard.dtype) for shard in shards}
        if len(kinds) != 1:
            raise InputError(
                name, expected="shards of one item shape and dtype",
                received=" and ".join(sorted(f"{dtype} {list(shape)}" for shape, dtype in kinds)) or "no shards",
            )  # fmt: skip
        super().__init__(_rows(shards[0]), name=name, labels=labels, names=names)
        check_items(self.array, name)
        self.shards = list(shards)
        self._starts = np.cumsum([0, *(len(shard) for shard in shards)])
        self._mapped: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def block(self, start: int, stop: int) -> np.ndarray:
        """Items ``start`` to ``stop``, from as many shards as they lie in."""
        stop = min(stop, len(self))
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        if stop <= start:
            return np.empty((0, *self.item_shape), self.dtype)
        if stop <= self._starts[first + 1]:
            return np.asarray(self._rows(first)[start - self._starts[first] : stop - self._starts[first]])
        items = np.empty((stop - start, *self.item_shape), self.dtype)
        while first < len(self.shards) and self._starts[first] < stop:
            offset = int(self._starts[first])
            part = self._rows(first)[max(0, start - offset) : stop - offset]
            place = max(0, offset - start)
            items[place : place + len(part)] = part
            first += 1
        return items

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The items of these indices, in this order."""
        indices = np.asarray(indices, dtype=np.int64)
        shard_of = np.searchsorted(self._starts, indices, "right") - 1
        items = np.empty((len(indices), *self.item_shape), self.dtype)
        for shard in np.unique(shard_of):
            here = shard_of == shard
            items[here] = self._rows(int(shard))[indices[here] - self._starts[shard]]
        return items

    def content_hash(self) -> str:
        """SHA-256 of all items, equal to that of the same items in one array."""
        if self._hash is None:
            self._hash = content_hash_of_parts(self._every(), (len(self), *self.item_shape))
        return self._hash

    def _every(self) -> Iterator[np.ndarray]:
        for number in range(len(self.shards)):
            yield self._rows(number)

    def _rows(self, number: int) -> np.ndarray:
        """A shard's array; a thousand shards must not keep a thousand files open."""
        with self._lock:
            if number not in self._mapped:
                while len(self._mapped) >= MAPPED_AT_ONCE:
                    self._mapped.popitem(last=False)
                self._mapped[number] = _rows(self.shards[number])
            self._mapped.move_to_end(number)
            return self._mapped[number]


def _rows(shard: np.ndarray | ArrayFile) -> np.ndarray:
    return shard.rows() if isinstance(shard, ArrayFile) else shard
