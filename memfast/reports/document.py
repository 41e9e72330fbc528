"""One HTML file that needs nothing else and asks for nothing: the frame that every report shares."""

import base64
import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from memfast.reports.markup import Markup, join, tag

KICKER = "memfast report"
OFFLINE = "Nothing on this page is loaded from elsewhere."
POLICY = (
    "default-src 'none'; img-src data:; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'"
)

Section = tuple[str, str, Markup | None]


def document(
    title: str, sections: Sequence[Section], *, script: str, data: Mapping[str, Any], introduction: str = ""
) -> str:
    """A page as text.

    Args:
        title: of the page.
        sections: an id, a heading and the content of each; one whose content is None is left out.
        script: the file in ``templates`` that moves the page.
        data: what the script reads, by the id of the element that will hold it.
        introduction: a sentence or two under the title.
    """
    program, style = template(script), template("report.css")
    shown = [(name, heading, content) for name, heading, content in sections if content is not None]
    body = join(
        tag("a", "Skip to the figures", href="#main", class_="skip"),
        tag(
            "header",
            tag("p", KICKER, class_="kicker"),
            tag("h1", title),
            tag("p", introduction, class_="lead") if introduction else None,
            _navigation([(name, heading) for name, heading, _ in shown]),
        ),
        tag(
            "main",
            [tag("section", tag("h2", heading), content, id=name) for name, heading, content in shown],
            id="main",
        ),
        tag("footer", tag("p", f"Written by memfast on {datetime.date.today().isoformat()}. {OFFLINE}")),
        [_data(name, content) for name, content in data.items()],
    )
    return (
        "<!doctype html>\n"
        + tag(
            "html",
            tag(
                "head",
                tag("meta", charset="utf-8"),
                tag("meta", http_equiv="Content-Security-Policy", content=_policy(program, style)),
                tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
                tag("meta", name="color-scheme", content="light dark"),
                tag("title", title),
                tag("style", Markup(style)),
            ),
            tag("body", body, tag("script", Markup(program))),
            lang="en",
        )
        + "\n"
    )


def template(name: str) -> str:
    """The text of a file in ``templates``."""
    return resources.files("memfast.reports").joinpath("templates", name).read_text(encoding="utf-8")


def _policy(script: str, style: str) -> str:
    """Nothing may be loaded; the one script and the one style sheet are known by their hashes."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    return POLICY.format(script=f"sha256-{hashes[0]}", style=f"sha256-{hashes[1]}")


def _navigation(entries: Sequence[tuple[str, str]]) -> Markup:
    links = [tag("li", tag("a", text, href=f"#{name}")) for name, text in entries]
    return tag("nav", tag("ul", links), aria_label="Sections")


def _data(name: str, content: Any) -> Markup:
    """JSON that no text in it can end: the characters of markup are written as escapes."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return tag("script", Markup(text), type="application/json", id=name)
