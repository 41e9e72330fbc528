"""What a trace returns, and its files: trace.json, a table, the page, the states."""

import csv
import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Never

import torch

from memfast.foundation.deprecated import warn_deprecated
from memfast.foundation.errors import InputError, first_line
from memfast.foundation.spreadsheet import guarded
from memfast.results.trace import TraceFigures, read_trace_figures
from memfast.runtime.files import (
    claim_output_folder,
    finish_generation,
    json_text,
    remove_unfinished,
    write_together,
)

TRACE_FILE, TABLE_FILE, PAGE_FILE, STATES_FILE = "trace.json", "trace.csv", "trace.html", "states.npy"


@dataclass(frozen=True, kw_only=True, eq=False)
class TraceResult(TraceFigures):
    """The result of ``trace_run`` and ``trace_pipeline``: the figures, and the samples that they were taken from.

    Attributes:
        samples: ``[P * K, ...]``, the finished samples, the seeds of a condition together; not saved.
        states: ``[S, P * K, ...]`` if they were asked for, else None; saved on request.
    """

    samples: torch.Tensor = field(repr=False)
    states: torch.Tensor | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        name = None if self.source is None else self.source.name
        sampler = self.sampler
        seeds, method = (0, None) if sampler is None else (len(sampler.seeds), sampler.method)
        states = len(self.timesteps or ())
        return f"<TraceResult of {name}: {len(self.conditions)} conditions, {seeds} seeds, {states} states, {method}>"

    @property
    def content(self) -> dict[str, Any]:
        """Deprecated: ``to_dict()``."""
        warn_deprecated("TraceResult.content", "TraceResult.to_dict()")
        return self.to_dict()

    def save(self, folder: str | os.PathLike[str], *, page: bool = False, states: bool = False) -> Path:
        """Write trace.json and trace.csv (one row per condition and seed), together or not at all.

        One rename replaces an earlier trace in the folder, and what it has besides (a page, states) goes: whoever
        reads the folder finds files of one trace, at any moment.

        Args:
            folder: made if it is not there.
            page: also write the page, trace.html.
            states: also write the states, states.npy (float32), if they were kept.

        Raises:
            OutputError: the folder cannot be made or written.
        """
        contents: dict[str, Any] = {TABLE_FILE: table(self), TRACE_FILE: json_text(self.to_dict())}
        if page:
            from memfast.reports import render_trace

            contents[PAGE_FILE] = render_trace(self)
        if states and self.states is not None:
            contents[STATES_FILE] = self.states.float().cpu().numpy()
        folder = claim_output_folder(folder, overwrite=True)
        every = (TABLE_FILE, TRACE_FILE, PAGE_FILE, STATES_FILE)
        remove_unfinished(folder, every)
        write_together(folder, contents, remove=every)
        return folder

    def report(self, path: str | os.PathLike[str], **words: Any) -> Path:
        """Write the page, trace.html, into a folder, or to a path that ends in .html.

        Args:
            path: the folder or the file.
            words: ``title`` and ``introduction`` of the page.

        Raises:
            OutputError: it cannot be written.
        """
        from memfast.reports import write_trace_report

        path = Path(path)
        return write_trace_report(path if path.suffix == ".html" else path / PAGE_FILE, self, **words)


def load_trace(path: str | os.PathLike[str]) -> TraceFigures:
    """Read the figures of a saved trace.

    Args:
        path: the folder that ``TraceResult.save`` or ``memfast trace`` wrote, or its trace.json.

    Raises:
        InputError: nothing there, no trace, or a damaged one; the error names the field.
    """
    path = Path(path)
    if path.is_dir():
        finish_generation(path)
        path /= TRACE_FILE
    try:
        content = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            str(path), expected="the trace.json of a trace", received=first_line(error), do="Trace again with --out."
        ) from error
    return read_trace_figures(content, str(path))


def table(figures: TraceFigures) -> str:
    """``trace.csv``: one row per condition and seed.

    Conditions' names come from prompts: one that a spreadsheet would run (it begins with ``=``, ``+``, ``-`` or ``@``)
    gets a single quote before it.
    """
    names = list(figures.conditions[0].detectors) if figures.conditions else []
    own = ["condition", "label", "memorized", "seed", "similarity", "d1", "d2", "nearest", "nearest_rms"]
    of_condition = ["condition_d1", "condition_d2", "overestimation", "normalised_loss"]
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerow([*own, *of_condition, *names])
    # Numbers stay bare; quotes around all text keep a lone carriage return inside its field.
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    for one in figures.conditions:
        shared = [one.d1, one.d2, one.overestimation, one.normalised_loss]
        for seed in one.seeds:
            nearest = (None, None) if seed.nearest is None else (seed.nearest.index, seed.nearest.rms)
            writer.writerow(
                [
                    guarded(one.name), one.label, one.memorized, seed.seed, seed.similarity, seed.d1, seed.d2, *nearest,
                    *shared, *(seed.detectors.get(name) for name in names),
                ]
            )  # fmt: skip
    return out.getvalue()


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name}, which strict JSON does not have")
