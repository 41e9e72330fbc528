"""Old names that still work for one version: each warns, and says what to write instead."""

import importlib
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def deprecated_names(module: str, renamed: Mapping[str, str]) -> Callable[[str], Any]:
    """A ``__getattr__`` for a module whose public names changed.

    Args:
        module: the module's ``__name__``.
        renamed: old name -> the new one: a name of the same module, or ``"package.module:name"``.

    >>> lookup = deprecated_names("math", {"square_root": "sqrt"})
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     lookup("square_root")(9)
    3.0
    """

    def lookup(name: str) -> Any:
        if name not in renamed:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, new = renamed[name].rpartition(":")
        place = place or module
        warn_deprecated(f"{module}.{name}", f"{place}.{new}", stacklevel=3)
        return getattr(importlib.import_module(place), new)

    return lookup


def deprecated_arguments(**renamed: str) -> Callable[[Function], Function]:
    """Accept keyword arguments under their old names: ``@deprecated_arguments(bank="database")``.

    Raises:
        TypeError: the decorated function got the old and the new name together.
    """

    def decorate(function: Function) -> Function:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old, new in renamed.items():
                if old in kwargs:
                    if new in kwargs:
                        raise TypeError(f"{function.__name__}() got {new!r} and its old name {old!r}")
                    warn_deprecated(f"{function.__name__}({old}=...)", f"{new}=", stacklevel=3)
                    kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


def warn_deprecated(old: str, new: str, *, stacklevel: int = 2) -> None:
    """Warn that ``old`` goes away with the next version, and name what replaces it."""
    warnings.warn(
        f"{old} is deprecated and will be removed in the next version: use {new}.",
        DeprecationWarning,
        stacklevel=stacklevel + 1,
    )
