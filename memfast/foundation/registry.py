"""One registry for every kind of plug-in: entries by name, aliases, the nearest spelling, and other packages' entries.

A kind lists its entries once, in its own ``registry.py``. An entry has a ``name`` and may have ``aliases``. A user's
package adds entries through Python entry points, without touching memfast::

    [project.entry-points."memfast.criteria"]
    my_criterion = "my_package.criteria:MyCriterion"

A script adds one for its own process: ``memfast.criteria.CRITERIA.register(MyCriterion)``.
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
        base: the class that every entry is a subclass or an instance of; None does not check.
        name_of: an entry's name; by default its attribute ``name``.

    Raises:
        InputError: two entries share a name or an alias, or an entry is not of ``base``.

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
        base: type | None = None,
        name_of: Callable[[Any], str] | None = None,
    ) -> None:
        self.what, self.group, self.base = what, group, base
        self._name_of = name_of or (lambda entry: entry.name)
        self._entries: dict[str, Entry] = {}
        self._aliases: dict[str, str] = {}
        self._loaded: list[metadata.EntryPoint] = []
        self._all_loaded = group is None
        for entry in entries:
            self.register(entry)

    def register(self, entry: Entry) -> Entry:
        """Add an entry for this process; usable as a decorator of classes and functions.

        Raises:
            InputError: its name or one of its aliases is taken, or it is not of the registry's ``base``.
        """
        if self.base is not None and not _is_of(entry, self.base):
            expected = f"a subclass or an instance of {self.base.__module__}.{self.base.__qualname__}"
            raise InputError(self.what, expected=expected, received=repr(entry))
        try:
            name, aliases = self._name_of(entry), tuple(getattr(entry, "aliases", ()))
        except AttributeError as error:
            raise InputError(self.what, expected="an entry with a name", received=repr(entry)) from error
        if not isinstance(name, str) or not all(isinstance(one, str) for one in aliases):
            raise InputError(self.what, expected="a name that is a text", received=repr(name))
        for one in (name, *aliases):
            if one in self._entries or one in self._aliases:
                raise InputError(
                    self.what, expected="a name that is not taken", received=repr(one), do="Give the new entry another."
                )
        self._entries[name] = entry
        self._aliases |= dict.fromkeys(aliases, name)
        return entry

    def find(self, name: Any, *, what: str | None = None, beside: str = "") -> Entry:
        """The entry of this name or alias; capitals do not matter.

        Built-in entries are found without a look at what is installed.

        Args:
            name: the name.
            what: what the error calls the argument that gave it.
            beside: what else that argument may be, for the error.

        Raises:
            InputError: there is none. The error lists the names, and suggests the one whose spelling is nearest.
        """
        found = self._known(name)
        if found is None:
            self._load_entry_points()
            found = self._known(name)
        if found is None:
            hints = [self._nearest(name), f"It may also be {beside}." if beside else ""]
            raise InputError(
                what or self.what, expected=self._listed(), received=repr(name), do=" ".join(filter(None, hints))
            )
        return self._entries[found]

    def build(self, config: Any, *, what: str | None = None, beside: str = "") -> Any:
        """Make the object that a name (with defaults) or a dictionary (``name`` and arguments) describes.

        An entry that contains objects of its own kind (a mixture of densities) defines
        ``from_config(arguments, build)`` and receives this function as ``build``.

        Args:
            config: the name or the dictionary.
            what: what the error calls the argument that gave it.
            beside: what else that argument may be, for the error.

        Raises:
            InputError: an unknown name, or arguments that the entry does not take.
        """
        what = what or self.what
        if not isinstance(config, str | Mapping):
            expected = f"a name, a dictionary or {beside}" if beside else "a name or a dictionary"
            raise InputError(what, expected=expected, received=type(config).__name__)
        arguments = {"name": config} if isinstance(config, str) else dict(config)
        name = arguments.pop("name", None)
        entry: Any = self.find(name, what=what, beside=beside)
        try:
            if hasattr(entry, "from_config"):
                return entry.from_config(arguments, self.build)
            return entry(**arguments)
        except InputError:
            raise
        except (TypeError, KeyError, ValueError) as error:
            raise InputError(f"{what} {name}", expected=own_arguments(entry), received=str(error)) from error

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            self._load_entry_points()
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._load_entry_points()
        return iter(self._entries)

    def __len__(self) -> int:
        self._load_entry_points()
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        if name not in self._entries:
            self._load_entry_points()
        return name in self._entries

    def __repr__(self) -> str:
        return f"Registry({self.what}: {', '.join(self._entries)})"

    def _known(self, name: Any) -> str | None:
        if isinstance(name, str):
            for spelling in (name, name.lower()):
                if spelling in self._entries or spelling in self._aliases:
                    return self._aliases.get(spelling, spelling)
        return None

    def _load_entry_points(self) -> None:
        """Add what installed packages offer, once. A package that cannot be loaded is an error: never passed over."""
        if self._all_loaded or self.group is None:
            return
        for point in metadata.entry_points(group=self.group):
            if point in self._loaded:
                continue
            try:
                self.register(point.load())
                self._loaded.append(point)
            except Exception as error:
                raise InputError(
                    f"entry point {point.name!r} of {self.group!r}",
                    expected=f"an entry that can be loaded from {point.value}",
                    received=f"{type(error).__name__}: {error}",
                    do=f"Repair or uninstall the package{f' {point.dist.name}' if point.dist else ''}.",
                ) from error
        self._all_loaded = True

    def _listed(self) -> str:
        aliases: dict[str, list[str]] = {}
        for alias, name in self._aliases.items():
            aliases.setdefault(name, []).append(alias)
        listed = [f"{name} ({', '.join(aliases[name])})" if name in aliases else name for name in self._entries]
        return f"one of {', '.join(listed)}" if len(listed) > 1 else listed[0] if listed else "an entry; there is none"

    def _nearest(self, name: object) -> str:
        known = [*self._entries, *self._aliases] if isinstance(name, str) else []
        close = difflib.get_close_matches(str(name).lower(), known, n=1)
        return f"Did you mean '{close[0]}'?" if close else ""


def _is_of(entry: Any, base: type) -> bool:
    return issubclass(entry, base) if isinstance(entry, type) else isinstance(entry, base)
