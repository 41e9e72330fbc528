"""Puts a report together: one HTML file that needs nothing else and asks for nothing."""

import base64
import datetime
import hashlib
import json
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from memfast.foundation.errors import InputError
from memfast.foundation.files import write_text
from memfast.reports.markup import Markup, join, tag
from memfast.reports.run import ReportRun
from memfast.reports.sections import SECTIONS
from memfast.reports.sections.gallery import gallery_data

DEFAULT_TITLE = "What the model copies"
OFFLINE = "Nothing on this page is loaded from elsewhere."
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
    "base-uri 'none'; form-action 'none'"
)


def write_report(
    path: str | os.PathLike[str],
    runs: ReportRun | Sequence[ReportRun],
    *,
    title: str = DEFAULT_TITLE,
    introduction: str = "",
) -> Path:
    """Write a self-contained page; several runs are shown side by side.

    Nothing is computed here: every figure is taken from the runs. The page loads nothing from anywhere.

    Args:
        path: the file to write.
        runs: one run, or several.
        title: the page's title.
        introduction: a sentence or two under the title.

    Raises:
        InputError: no run, or two of one label.
        OutputError: the file could not be written.
    """
    runs = [runs] if isinstance(runs, ReportRun) else list(runs)
    labels = [run.label for run in runs]
    if not runs or len(set(labels)) != len(labels):
        raise InputError("runs", expected="at least one run, each with its own label", received=f"labels {labels}")
    write_text(path, render(runs, title=title, introduction=introduction))
    return Path(path)


def render(runs: Sequence[ReportRun], *, title: str = DEFAULT_TITLE, introduction: str = "") -> str:
    """The page as text."""
    style, script = _template("report.css"), _template("report.js")
    sections = [(name, heading, build(runs)) for name, heading, build in SECTIONS]
    sections = [(name, heading, content) for name, heading, content in sections if content is not None]
    body = join(
        tag("a", "Skip to the figures", href="#main", class_="skip"),
        tag(
            "header",
            tag("p", "memfast report", class_="kicker"),
            tag("h1", title),
            tag("p", introduction, class_="lead") if introduction else None,
            _navigation([(name, heading) for name, heading, _ in sections]),
        ),
        tag(
            "main",
            [tag("section", tag("h2", heading), content, id=name) for name, heading, content in sections],
            id="main",
        ),
        tag("footer", tag("p", f"Written by memfast on {datetime.date.today().isoformat()}. {OFFLINE}")),
        _data("gallery-data", gallery_data(runs)),
    )
    return (
        "<!doctype html>\n"
        + tag(
            "html",
            tag(
                "head",
                tag("meta", charset="utf-8"),
                tag("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
                tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
                tag("meta", name="color-scheme", content="light dark"),
                tag("title", title),
                tag("style", Markup(style)),
            ),
            tag("body", body, tag("script", Markup(script))),
            lang="en",
        )
        + "\n"
    )


def _policy(script: str) -> str:
    """Nothing may be loaded; the one script is known by its hash."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return POLICY.format(digest=digest)


def _navigation(entries: Sequence[tuple[str, str]]) -> Markup:
    links = [tag("li", tag("a", text, href=f"#{name}")) for name, text in entries]
    return tag("nav", tag("ul", links), aria_label="Sections")


def _data(name: str, content: Any) -> Markup:
    """JSON that no text in it can end: the characters of markup are written as escapes."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return tag("script", Markup(text), type="application/json", id=name)


def _template(name: str) -> str:
    return resources.files("memfast.reports").joinpath("templates", name).read_text(encoding="utf-8")
