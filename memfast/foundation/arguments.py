"""Numbers that a user gives: whole or finite, within their range, or an error that says so."""

import inspect
import math
import operator
from collections.abc import Callable
from numbers import Real
from typing import Any

from memfast.foundation.errors import InputError

LEAST_SEED, GREATEST_SEED = -(2**63), 2**64 - 1
_SHOWN = 80


def whole_number(
    name: str, value: Any, *, least: int | None = None, greatest: int | None = None, words: str = "", do: str = ""
) -> int:
    """``value`` as an int, where it is a whole number of Python, NumPy or a tensor, within its range.

    A bool is no number, and neither is a float, even a whole one: what rounds it is the caller's to say.

    Args:
        name: what the error calls it.
        value: what was given.
        least: the least it may be, or None.
        greatest: the greatest it may be, or None.
        words: what the error says is expected; by default the range.
        do: what the error says can be done.

    Raises:
        InputError: it is something else, or out of range.

    >>> whole_number("steps", 6, least=1)
    6
    >>> whole_number("steps", "6", least=1)
    Traceback (most recent call last):
    memfast.foundation.errors.InputError: steps: expected a whole number of at least 1, received '6'.
    """
    number = _index(value)
    if number is None or (least is not None and number < least) or (greatest is not None and number > greatest):
        limits = _limits(least, greatest)
        raise InputError(name, expected=words or f"a whole number{limits}", received=_shown(value, number), do=do)
    return number


def finite_number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    greatest: float | None = None,
    above: float | None = None,
    below: float | None = None,
    words: str = "",
    do: str = "",
) -> float:
    """``value`` as a float, where it is a real number of Python or NumPy, neither NaN nor infinite, within its range.

    Args:
        name: what the error calls it.
        value: what was given.
        least: the least it may be, or None.
        greatest: the greatest it may be, or None.
        above: what it must be greater than, or None.
        below: what it must be less than, or None.
        words: what the error says is expected; by default the range.
        do: what the error says can be done.

    Raises:
        InputError: it is something else, or out of range.

    >>> finite_number("lr", 1, above=0)
    1.0
    >>> finite_number("share", 1.5, least=0, greatest=1)
    Traceback (most recent call last):
    memfast.foundation.errors.InputError: share: expected a finite number from 0 to 1, received 1.5.
    """
    number = _real(value)
    fits = (
        number is not None
        and (least is None or number >= least)
        and (greatest is None or number <= greatest)
        and (above is None or number > above)
        and (below is None or number < below)
    )
    if number is None or not fits:
        limits = _limits(least, greatest, above, below)
        raise InputError(name, expected=words or f"a finite number{limits}", received=_shown(value, number), do=do)
    return number


def seed_number(name: str, value: Any) -> int:
    """``value`` as the 64 bits of a seed: a whole number from -2**63 to 2**64 - 1.

    Raises:
        InputError: it is something else.
    """
    return whole_number(name, value, least=LEAST_SEED, greatest=GREATEST_SEED, words="a 64-bit whole number")


def own_arguments(made: Callable[..., Any]) -> str:
    """What an error says of the arguments that a class or function takes.

    >>> own_arguments(seed_number)
    'its own arguments (name, value)'
    """
    return f"its own arguments ({', '.join(inspect.signature(made).parameters) or 'none'})"


def _index(value: Any) -> int | None:
    # Bools of PyTorch count as indices too, those of NumPy do not.
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
        return None
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        return None


def _real(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _limits(least: float | None, greatest: float | None, above: float | None = None, below: float | None = None) -> str:
    if least is not None and greatest is not None:
        return f" from {_plain(least)} to {_plain(greatest)}"
    lower = f" of at least {_plain(least)}" if least is not None else ""
    lower = f" above {_plain(above)}" if above is not None else lower
    if greatest is None and below is None:
        return lower
    upper = f"below {_plain(below)}" if greatest is None else f"at most {_plain(greatest)}"
    return f"{lower} and {upper}" if lower else f", {upper}"


def _plain(limit: float | None) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def _shown(value: Any, number: float | None) -> str:
    try:
        text = repr(value) if number is None else str(value)
    except ValueError:
        # Python writes out no int of more than some thousand digits.
        text = "an int of thousands of digits"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + " ..."
