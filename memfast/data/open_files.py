"""A few files kept open out of many: a thousand shards must not need a thousand file descriptors."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

MOST_OPEN = 12


class OpenFiles:
    """Opens files on demand and closes the one that was not used for the longest time.

    Args:
        most: how many stay open.
    """

    def __init__(self, most: int = MOST_OPEN) -> None:
        self._most, self._lock = most, RLock()
        self._open: OrderedDict[Hashable, Any] = OrderedDict()

    def __enter__(self) -> "OpenFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def use(self, key: Hashable, opener: Callable[[], Any]) -> Iterator[Any]:
        """The open file of this key, for one thread at a time."""
        with self._lock:
            if key not in self._open:
                while len(self._open) >= self._most:
                    _, oldest = self._open.popitem(last=False)
                    oldest.close()
                self._open[key] = opener()
            self._open.move_to_end(key)
            yield self._open[key]

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            while self._open:
                _, one = self._open.popitem()
                one.close()
