"""Text that a spreadsheet must not take for a formula: names in tables come from the data."""

import re

# A spreadsheet takes text that begins with one of these for a formula; with a quote before it, for text.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
QUOTE = "'"
# Where a cell can begin inside a text: at its start, and after what other countries' spreadsheets split lines at.
_CELL = r"(?:^|(?<=[;\t\r\n|]))"
_RISKY = re.compile(_CELL + "(?=[" + re.escape("".join((QUOTE, *FORMULA_STARTS))) + "])")
_GUARD = re.compile(_CELL + QUOTE)


def guarded(text: str) -> str:
    """``text``, with a single quote wherever a spreadsheet would see the start of a formula (or of a quote).

    Not only at the start: where commas are decimal points, spreadsheets split the lines of a table at semicolons.

    >>> guarded("=1+1"), guarded("a=b"), guarded("'a'"), guarded("a;=1+1")
    ("'=1+1", 'a=b', "''a'", "a;'=1+1")
    """
    return _RISKY.sub(QUOTE, text)


def unguarded(text: str, *, start_only: bool = False) -> str:
    """What ``guarded`` was given.

    Args:
        text: the cell.
        start_only: it was guarded by a version that looked at the start only.

    >>> unguarded(guarded("=1+1")), unguarded(guarded("a;=1;'b")), unguarded("a=b")
    ('=1+1', "a;=1;'b", 'a=b')
    """
    return text.removeprefix(QUOTE) if start_only else _GUARD.sub("", text)
