"""Text that a spreadsheet must not take for a formula: names in tables come from the data."""

# A spreadsheet takes text that begins with one of these for a formula; with a quote before it, for text.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
QUOTE = "'"


def guarded(text: str) -> str:
    """``text``, with a single quote before it where a spreadsheet would run it (or where it has a quote there itself).

    >>> guarded("=1+1"), guarded("a=b"), guarded("'a'")
    ("'=1+1", 'a=b', "''a'")
    """
    return QUOTE + text if text.startswith((QUOTE, *FORMULA_STARTS)) else text


def unguarded(text: str) -> str:
    """What ``guarded`` was given.

    >>> unguarded(guarded("=1+1")), unguarded("a=b")
    ('=1+1', 'a=b')
    """
    return text.removeprefix(QUOTE)
