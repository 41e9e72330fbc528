"""Numbers as people read them."""


def short(value: float | int | None) -> str:
    """Three or four significant digits, thousands separated.

    >>> short(0.123456), short(12345), short(None), short(1e-9)
    ('0.1235', '12,345', '', '1e-09')
    """
    if value is None:
        return ""
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e9):
        return f"{int(value):,}"
    return f"{value:.4g}"
