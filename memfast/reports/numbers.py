"""Numbers as people read them."""

from collections.abc import Sequence


def percent(fraction: float) -> str:
    """A fraction as per cent, with as many digits as it needs.

    >>> percent(0.0), percent(0.1234), percent(0.00042), percent(1.0)
    ('0 %', '12.3 %', '0.042 %', '100 %')
    """
    value = 100 * fraction
    if value == 0 or value >= 99.95:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if abs(value) >= 1 else f"{value:.2g} %"


def percent_range(interval: Sequence[float]) -> str:
    """Two fractions as one range.

    >>> percent_range((0.01, 0.05))
    '1.0 to 5.0 %'
    """
    low, high = interval
    return f"{percent(low)[:-2]} to {percent(high)}"


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
