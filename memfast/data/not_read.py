"""What a reader passed over: every entry that is not an item, counted and named with its reason."""

from collections.abc import Iterable
from dataclasses import dataclass

NAMED = 5


@dataclass(frozen=True)
class NotRead:
    """Entries of a source that were passed over for one reason.

    Attributes:
        reason: why, as a noun phrase that follows a count, for example ``".txt files"`` or ``"broken links"``.
        count: how many entries.
        names: the first few of them.
    """

    reason: str
    count: int
    names: tuple[str, ...]


class PassedOver:
    """Collects what a reader passes over.

    >>> passed = PassedOver()
    >>> passed.add("broken links", "a.png")
    >>> passed.add("broken links", "b.png")
    >>> passed.result()
    (NotRead(reason='broken links', count=2, names=('a.png', 'b.png')),)
    """

    def __init__(self, known: Iterable[NotRead] = ()) -> None:
        self._counts: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}
        self.extend(known)

    def add(self, reason: str, name: str, count: int = 1) -> None:
        """Count one entry, or several under one name."""
        self._counts[reason] = self._counts.get(reason, 0) + count
        names = self._names.setdefault(reason, [])
        if len(names) < NAMED:
            names.append(printable(name))

    def discard(self, reason: str, name: str) -> None:
        """Take one entry back that turned out to be no data."""
        if name in self._names.get(reason, ()):
            self._names[reason].remove(name)
            self._counts[reason] -= 1
            if not self._counts[reason]:
                del self._counts[reason], self._names[reason]

    def extend(self, known: Iterable[NotRead], prefix: str = "") -> None:
        """Add what another reader passed over, its names behind ``prefix``."""
        for one in known:
            self._counts[one.reason] = self._counts.get(one.reason, 0) + one.count
            names = self._names.setdefault(one.reason, [])
            names += [printable(prefix + name) for name in one.names][: NAMED - len(names)]

    def result(self) -> tuple[NotRead, ...]:
        """One entry per reason, in the order in which the reasons came up."""
        return tuple(NotRead(reason, count, tuple(self._names[reason])) for reason, count in self._counts.items())


def printable(name: str) -> str:
    r"""A name that UTF-8 can hold: bytes of a file name that are not UTF-8 become ``\udcXX``."""
    return name.encode("utf-8", "backslashreplace").decode()
