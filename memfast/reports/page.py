"""The report of audits and training runs: one page, its sections in order."""

import os
from collections.abc import Sequence
from pathlib import Path

from memfast.foundation.errors import InputError
from memfast.reports.document import document
from memfast.reports.run import ReportRun
from memfast.reports.sections import SECTIONS
from memfast.reports.sections.gallery import gallery_data
from memfast.runtime.files import write_text

DEFAULT_TITLE = "What the model copies"


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
    sections = [(name, heading, build(runs)) for name, heading, build in SECTIONS]
    data = {"gallery-data": gallery_data(runs)}
    return document(title, sections, script="report.js", data=data, introduction=introduction)
