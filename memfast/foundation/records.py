"""Typed values read back from plain ones: the way from JSON to a dataclass, with an error that names the field."""

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, Union

from memfast.foundation.errors import InputError

Record = TypeVar("Record")

_LARGEST_INT = 2**63 - 1
_UNIONS = (Union, types.UnionType)


def read_record(kind: type[Record], value: Any, path: str) -> Record:
    """The dataclass ``kind`` that `memfast.foundation.values.plain` had turned into ``value``.

    Fields may be dataclasses, named tuples, tuples, mappings from text, numbers, text, bools, None and ``Any``. A field
    with a default may be missing: it was added after ``value`` was written.

    Args:
        kind: the dataclass.
        value: plain values, as ``json.loads`` gives them.
        path: what errors call the whole, for example the file's name.

    Raises:
        InputError: a field is missing, unknown or of another type; the text names it.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Share:
    ...     count: int
    ...     ends: tuple[float, ...] = ()
    >>> read_record(Share, {"count": 3, "ends": [0, 0.5]}, "share")
    Share(count=3, ends=(0.0, 0.5))
    >>> read_record(Share, {"count": "3"}, "share")
    Traceback (most recent call last):
    memfast.foundation.errors.InputError: share.count: expected a whole number, received '3'.
    """
    return _read(kind, value, path)


def _read(kind: Any, value: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in _UNIONS:
        return _read_union(arguments, value, path)
    if dataclasses.is_dataclass(kind):
        return _read_fields(kind, _fields(kind), value, path)
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _read_named_tuple(kind, value, path)
    if origin is tuple:
        return _read_tuple(arguments, value, path)
    if origin is not None and issubclass(origin, Mapping):
        _require(isinstance(value, Mapping), "names and values", value, path)
        return {str(name): _read(arguments[1], one, f"{path}.{name}") for name, one in value.items()}
    return _read_scalar(kind, value, path)


def _read_union(kinds: tuple[Any, ...], value: Any, path: str) -> Any:
    """The first kind that fits; the error is that of the only one beside None, or names all."""
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    for kind in others[:-1]:
        try:
            return _read(kind, value, path)
        except InputError:
            continue
    return _read(others[-1], value, path)


def _read_fields(kind: Any, fields: Mapping[str, tuple[Any, bool]], value: Any, path: str) -> Any:
    _require(isinstance(value, Mapping), f"the fields of {kind.__name__}", value, path)
    unknown = [name for name in value if name not in fields]
    if unknown:
        raise InputError(path, expected=f"fields among {', '.join(fields)}", received=reprlib.repr(unknown[0]))
    found = {}
    for name, (one, required) in fields.items():
        if name in value:
            found[name] = _read(one, value[name], f"{path}.{name}")
        elif required:
            raise InputError(f"{path}.{name}", expected="a value", received="no such field")
    try:
        return kind(**found)
    except InputError as error:
        raise InputError(f"{path}.{error.what}", expected=error.expected, received=error.received) from error


def _read_named_tuple(kind: Any, value: Any, path: str) -> Any:
    names = kind._fields
    _require(isinstance(value, list | tuple) and len(value) == len(names), f"{len(names)} values", value, path)
    hints = _hints(kind)
    return kind(
        *(_read(hints[name], one, f"{path}[{at}]") for at, (name, one) in enumerate(zip(names, value, strict=True)))
    )


def _read_tuple(kinds: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    _require(isinstance(value, list | tuple), "a list", value, path)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        if kinds[0] is float and all(type(one) is float for one in value):
            _require(all(map(math.isfinite, value)), "finite numbers", value, path)
            return tuple(value)
        return tuple(_read(kinds[0], one, f"{path}[{at}]") for at, one in enumerate(value))
    _require(len(value) == len(kinds), f"{len(kinds)} values", value, path)
    return tuple(_read(kind, one, f"{path}[{at}]") for at, (kind, one) in enumerate(zip(kinds, value, strict=True)))


def _read_scalar(kind: Any, value: Any, path: str) -> Any:
    if kind is float:
        _require(isinstance(value, int | float) and not isinstance(value, bool), "a number", value, path)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        _require(math.isfinite(number), "a finite number", value, path)
        return number
    if kind is int:
        _require(isinstance(value, int) and not isinstance(value, bool), "a whole number", value, path)
        _require(abs(value) <= _LARGEST_INT, "a whole number of 64 bits", value, path)
        return value
    words = {str: "text", bool: "true or false"}[kind]
    _require(isinstance(value, kind), words, value, path)
    return value


@cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Name -> type, and whether it must be there."""
    hints = _hints(kind)
    missing = dataclasses.MISSING
    return {
        field.name: (hints[field.name], field.default is missing and field.default_factory is missing)
        for field in dataclasses.fields(kind)
        if field.init
    }


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _require(fits: bool, expected: str, value: Any, path: str) -> None:
    if not fits:
        raise InputError(path, expected=expected, received=reprlib.repr(value))
