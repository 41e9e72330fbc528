"""The page of a trace: its sections in order, from trace.json alone."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memfast.foundation.errors import InputError
from memfast.reports.document import document
from memfast.reports.trace_sections import TRACE_SECTIONS
from memfast.reports.trace_sections.rows import tables_data
from memfast.runtime.files import write_text

DEFAULT_TRACE_TITLE = "How samples come to be"


def write_trace_report(
    path: str | os.PathLike[str],
    trace: Mapping[str, Any],
    *,
    title: str = DEFAULT_TRACE_TITLE,
    introduction: str | None = None,
) -> Path:
    """Write the self-contained page of a trace. It loads nothing from anywhere.

    Args:
        path: the file to write.
        trace: the content of trace.json (``TraceResult.to_dict()``).
        title: the page's title.
        introduction: a sentence or two under the title; None says what was traced.

    Raises:
        InputError: no trace, or one without conditions.
        OutputError: the file could not be written.
    """
    write_text(path, render_trace(trace, title=title, introduction=introduction))
    return Path(path)


def render_trace(trace: Mapping[str, Any], *, title: str = DEFAULT_TRACE_TITLE, introduction: str | None = None) -> str:
    """The page as text."""
    if not isinstance(trace, Mapping) or trace.get("kind") != "trace":
        kind = trace.get("kind") if isinstance(trace, Mapping) else type(trace).__name__
        raise InputError("trace", expected="the content of a trace.json (kind 'trace')", received=repr(kind))
    if not trace.get("conditions"):
        raise InputError("trace", expected="at least one condition", received="none")
    if introduction is None:
        name = (trace.get("source") or {}).get("name")
        introduction = f"Sampling runs of {name}, followed from noise to sample." if name else ""
    sections = [(name, heading, build(trace)) for name, heading, build in TRACE_SECTIONS]
    data = {"tables-data": tables_data(trace)}
    return document(title, sections, script="tables.js", data=data, introduction=introduction)
