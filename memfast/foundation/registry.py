"""One registry for every kind of plug-in: entries by name, aliases, the nearest spelling, and other packages' entries.

A kind lists its entries once, in its own ``registry.py``. An entry has a ``name`` and may have ``aliases``. A user's
package adds entries through Python entry points, without touching memfast::

    [project.entry-points."memfast.criteria"]
    my_criterion = "my_package.criteria:MyCriterion"
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from typing import Any, Generic, TypeVar

from memfast.foundation.arguments import own_arguments
from memfast.foundation.errors import InputError

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """The entries of one kind, by name, in the order in which they were listed.

    Args:
        what: what errors call a wrong choice, for example ``"loss_weight"``.
        entries: the built-in ones: classes, functions or objects.
        group: the entry-point group through which installed packages add theirs, for example ``"memfast.criteria"``.
        name_of: an entry's name; by default its attribute ``name``.

    Raises:
        InputError: two entries share a name or an alias.

    >>> class Mean:
    ...     name, aliases = "mean", ("average",)
    >>> kinds = Registry("statistic", [Mean])
    >>> kinds["mean"] is kinds.find("average") is Mean
    True
    >>> kinds.find("maen")
    Traceback (most recent call last):
    memfast.foundation.errors.InputError: statistic: expected mean (average), received 'maen'. Did you mean 'mean'?
    """

    def __init__(
        self,
        what: str,
        entries: Iterable[Entry],
        *,
        group: str | None = None,
        name_of: Callable[[Entry], str] | None = None,
    ) -> None:
        self.what, self.group = what, group
        self._name_of = name_of or (lambda entry: entry.name)  # type: ignore[attr-defined]
        self._entries: dict[str, Entry] = {}
        self._aliases: dict[str, str] = {}
        self._read: list[metadata.EntryPoint] = []
        self._outside_read = group is None
        for entry in entries:
            self.register(entry)

    def register(self, entry: Entry) -> Entry:
        """Add an entry for this process; usable as a decorator of classes and functions.

        Raises:
            InputError: its name or an alias is taken.
        """
        name, aliases = self._name_of(entry), tuple(getattr(entry, "aliases", ()))
        for one in (name, *aliases):
            if one in self._entries or one in self._aliases:
                raise InputError(self.what, expected="a name that is not taken", received=repr(one))
        self._entries[name] = entry
        self._aliases |= dict.fromkeys(aliases, name)
        return entry

    def find(self, name: str, *, what: str | None = None) -> Entry:
        """The entry of this name or alias; capitals do not matter.

        Args:
            name: the name.
            what: what the error calls the argument that gave it.

        Raises:
            InputError: there is none; the text lists the names and the nearest one.
        """
        self._read_outside()
        for spelling in (name, str(name).lower()):
            if isinstance(name, str) and spelling in self._aliases:
                return self._entries[self._aliases[spelling]]
            if isinstance(name, str) and spelling in self._entries:
                return self._entries[spelling]
        raise InputError(what or self.what, expected=self._listed(), received=repr(name), do=self._near(name))

    def build(self, config: str | Mapping[str, Any], *, what: str | None = None) -> Any:
        """Make the object that a name (with defaults) or a dictionary (``name`` and arguments) describes.

        An entry that contains objects of its own kind (a mixture of densities) defines
        ``from_config(arguments, build)`` and receives this function as ``build``.

        Raises:
            InputError: an unknown name or argument.
        """
        what = what or self.what
        if not isinstance(config, str | Mapping):
            raise InputError(what, expected="a name or a dictionary", received=type(config).__name__)
        arguments = {"name": config} if isinstance(config, str) else dict(config)
        name = arguments.pop("name", None)
        entry: Any = self.find(name, what=what)
        try:
            if hasattr(entry, "from_config"):
                return entry.from_config(arguments, self.build)
            return entry(**arguments)
        except InputError:
            raise
        except (TypeError, KeyError, ValueError) as error:
            raise InputError(f"{what} {name}", expected=own_arguments(entry), received=str(error)) from error

    def __getitem__(self, name: str) -> Entry:
        self._read_outside()
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._read_outside()
        return iter(self._entries)

    def __len__(self) -> int:
        self._read_outside()
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        self._read_outside()
        return name in self._entries

    def __repr__(self) -> str:
        return f"Registry({self.what}: {', '.join(self)})"

    def _read_outside(self) -> None:
        """Add what installed packages offer, once. A package that cannot be loaded is an error: never passed over."""
        if self._outside_read or self.group is None:
            return
        for point in metadata.entry_points(group=self.group):
            if point in self._read:
                continue
            try:
                self.register(point.load())
                self._read.append(point)
            except Exception as error:
                raise InputError(
                    f"entry point {point.name!r} of {self.group!r}",
                    expected=f"a {self.what} that can be loaded from {point.value}",
                    received=f"{type(error).__name__}: {error}",
                    do="Repair or uninstall the package that brings it.",
                ) from error
        self._outside_read = True

    def _listed(self) -> str:
        aliases: dict[str, list[str]] = {}
        for alias, name in self._aliases.items():
            aliases.setdefault(name, []).append(alias)
        listed = [f"{name} ({', '.join(aliases[name])})" if name in aliases else name for name in self._entries]
        return f"one of {', '.join(listed)}" if len(listed) > 1 else listed[0]

    def _near(self, name: object) -> str:
        close = difflib.get_close_matches(str(name).lower(), [*self._entries, *self._aliases], n=1)
        return f"Did you mean '{close[0]}'?" if close else ""
