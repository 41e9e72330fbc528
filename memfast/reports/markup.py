"""HTML and SVG built so that text from data cannot become markup."""

import html
from typing import Any

VOID = ("meta", "link", "br", "input", "img", "line", "rect", "circle", "path", "polyline", "polygon")


class Markup(str):
    """Text that already is markup; every other string is escaped when it enters a tag."""

    __slots__ = ()


def escape(text: Any) -> Markup:
    """``text`` as markup that shows it.

    >>> escape("<b>&")
    '&lt;b&gt;&amp;'
    """
    return text if isinstance(text, Markup) else Markup(html.escape(str(text), quote=True))


def tag(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """One element. Children that are None or False are left out; ``class_`` is ``class``, ``_`` becomes ``-``.

    >>> tag("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    text = "".join(
        f' {_attribute(key)}="{escape(value)}"' if value is not True else f" {_attribute(key)}"
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID and not children:
        return Markup(f"<{name}{text}/>")
    return Markup(f"<{name}{text}>{join(*children)}</{name}>")


def join(*children: Any) -> Markup:
    """Several pieces one after the other; lists are opened."""
    parts = []
    for child in children:
        if child is None or child is False:
            continue
        parts.append(join(*child) if isinstance(child, list | tuple) else escape(child))
    return Markup("".join(parts))


def table(head: list[Any], rows: list[list[Any]], *, caption: str = "", class_: str | None = None) -> Markup:
    """A table that scrolls sideways in its own box; the first cell of a row is its heading."""
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption) if caption else None,
            tag("thead", tag("tr", [tag("th", cell, scope="col") for cell in head])),
            tag("tbody", [_row(row) for row in rows]),
            class_=class_,
        ),
        class_="scroll",
    )


def folded(summary: str, *content: Any) -> Markup:
    """Content that is closed until the reader opens it."""
    return tag("details", tag("summary", summary), *content)


def _row(cells: list[Any]) -> Markup:
    return tag("tr", tag("th", cells[0], scope="row"), [tag("td", cell) for cell in cells[1:]])


def _attribute(name: str) -> str:
    if name in ("viewBox", "preserveAspectRatio"):
        return name
    return name.rstrip("_").replace("_", "-")
