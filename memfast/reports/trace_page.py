"""The page of a trace: its sections in order, from trace.json alone."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memfast.reports.document import document
from memfast.reports.trace_sections import TRACE_SECTIONS
from memfast.reports.trace_sections.rows import tables_data
from memfast.results.trace import TraceFigures, read_trace_figures
from memfast.runtime.files import write_text

DEFAULT_TRACE_TITLE = "How samples come to be"


def write_trace_report(
    path: str | os.PathLike[str],
    trace: TraceFigures | Mapping[str, Any],
    *,
    title: str = DEFAULT_TRACE_TITLE,
    introduction: str | None = None,
) -> Path:
    """Write the self-contained page of a trace. It loads nothing from anywhere.

    Args:
        path: the file to write.
        trace: the figures of a trace, or the content of trace.json (``TraceResult.to_dict()``).
        title: the page's title.
        introduction: a sentence or two under the title; None says what was traced.

    Raises:
        InputError: no trace, one without conditions, or a damaged one.
        OutputError: the file could not be written.
    """
    write_text(path, render_trace(trace, title=title, introduction=introduction))
    return Path(path)


def render_trace(
    trace: TraceFigures | Mapping[str, Any], *, title: str = DEFAULT_TRACE_TITLE, introduction: str | None = None
) -> str:
    """The page as text."""
    figures = trace if isinstance(trace, TraceFigures) else read_trace_figures(trace)
    if introduction is None:
        name = None if figures.source is None else figures.source.name
        introduction = f"Sampling runs of {name}, followed from noise to sample." if name else ""
    sections = [(name, heading, build(figures)) for name, heading, build in TRACE_SECTIONS]
    data = {"tables-data": tables_data(figures)}
    return document(title, sections, script="tables.js", data=data, introduction=introduction)
