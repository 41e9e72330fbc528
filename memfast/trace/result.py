"""What a trace returns: ``trace.json`` as plain values, a table, the finished samples."""

import csv
import io
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memfast.detectors import roc
from memfast.foundation.spreadsheet import guarded
from memfast.runtime.files import claim_output_folder, json_text, remove_unfinished, write_together
from memfast.trace.intervals import correlation

TRACE_FILE, TABLE_FILE, PAGE_FILE, STATES_FILE = "trace.json", "trace.csv", "trace.html", "states.npy"
FALSE_POSITIVE_RATE = 0.01


@dataclass(frozen=True)
class TraceResult:
    """The result of ``trace_run`` and ``trace_pipeline``.

    Attributes:
        content: everything that was measured, as plain values; see docs/trace.md.
        samples: ``[P * K, ...]``, the finished samples, the seeds of a condition together; not saved.
        states: ``[S, P * K, ...]`` if they were asked for, else None; saved on request.
    """

    content: dict[str, Any]
    samples: torch.Tensor = field(repr=False)
    states: torch.Tensor | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """``trace.json``: plain values for strict JSON, None for what could not be measured."""
        return self.content

    @property
    def conditions(self) -> list[dict[str, Any]]:
        """One entry per condition."""
        return self.content["conditions"]

    def save(self, folder: str | os.PathLike[str], *, page: bool = False, states: bool = False) -> Path:
        """Write trace.json and trace.csv (one row per condition and seed), together or not at all.

        All files are made whole beside those of an earlier trace before the first of them is replaced: whatever goes
        wrong while they are written, the earlier trace stays as it was.

        Args:
            folder: made if it is not there.
            page: also write the page, trace.html.
            states: also write the states, states.npy (float32), if they were kept.

        Raises:
            OutputError: the folder cannot be made or written.
        """
        contents: dict[str, str | np.ndarray] = {
            TABLE_FILE: table(self.content),
            TRACE_FILE: json_text(self.content),
        }
        if page:
            from memfast.reports import render_trace

            contents[PAGE_FILE] = render_trace(self.content)
        if states and self.states is not None:
            contents[STATES_FILE] = self.states.float().cpu().numpy()
        folder = claim_output_folder(folder, overwrite=True)
        remove_unfinished(folder, (TABLE_FILE, TRACE_FILE, PAGE_FILE, STATES_FILE))
        write_together(folder, contents)
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
        return write_trace_report(path if path.suffix == ".html" else path / PAGE_FILE, self.content, **words)


def table(content: dict[str, Any]) -> str:
    """``trace.csv``: one row per condition and seed.

    Conditions' names come from prompts: one that a spreadsheet would run (it begins with ``=``, ``+``, ``-`` or ``@``)
    gets a single quote before it.
    """
    names = list(content["conditions"][0]["detectors"]) if content["conditions"] else []
    own = ["condition", "label", "memorized", "seed", "similarity", "d1", "d2", "nearest", "nearest_rms"]
    of_condition = ["condition_d1", "condition_d2", "overestimation", "normalised_loss"]
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerow([*own, *of_condition, *names])
    # Numbers stay bare; quotes around all text keep a lone carriage return inside its field.
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    for entry in content["conditions"]:
        shared = [entry["d1"], entry["d2"], entry["overestimation"], entry["normalised_loss"]]
        for seed in entry["seeds"]:
            nearest = seed["nearest"] or {"index": None, "rms": None}
            row = [
                guarded(entry["name"]), entry["label"], entry["memorized"], seed["seed"],
                seed["similarity"], seed["d1"], seed["d2"],
                nearest["index"], nearest["rms"], *shared, *(seed["detectors"].get(name) for name in names),
            ]  # fmt: skip
            writer.writerow(row)
    return out.getvalue()


def correlations(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Pearson's r of each condition's D1 and D2 with its mean similarity; None without a target."""
    known = [entry for entry in entries if entry["d1"] is not None and entry["similarity"]["mean"] is not None]
    if not known:
        return None
    similarity = [entry["similarity"]["mean"] for entry in known]
    return {name: correlation([entry[name] for entry in known], similarity)._asdict() for name in ("d1", "d2")}


def detection(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Each detector's ROC over the conditions that are labelled, or None where they are not of both kinds."""
    known = [entry for entry in entries if entry["memorized"] is not None]
    truth = np.array([entry["memorized"] for entry in known], dtype=bool)
    if not truth.any() or truth.all():
        return None
    found = {}
    for name in known[0]["detectors"]:
        scores = np.array([entry["detectors"][name] for entry in known], dtype=np.float64)
        if not np.isfinite(scores).all():
            continue
        curve = roc(scores, truth)
        at, interval = curve.tpr_at(FALSE_POSITIVE_RATE)
        found[name] = {
            "auc": curve.auc, "auc_interval": list(curve.auc_interval),
            "tpr_at_fpr": {"fpr": FALSE_POSITIVE_RATE, "tpr": at, "interval": list(interval)},
            "positives": int(truth.sum()), "negatives": int((~truth).sum()),
            "roc": {"fpr": curve.fpr, "tpr": curve.tpr},
        }  # fmt: skip
    return found


def plain(value: Any) -> Any:
    """Values as strict JSON holds them: lists for arrays and tuples, None for what is not finite."""
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
