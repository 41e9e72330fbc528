"""What an audit returns: figures, pairs and pictures, saved without pickles and reported without computing."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from memfast.auditing.controls import Controls
from memfast.auditing.pairs import Pairs
from memfast.auditing.pictures import load_pictures, save_pictures
from memfast.auditing.statement import canary_sentences, percent
from memfast.foundation.errors import InputError
from memfast.reports import Pictures, ReportRun, write_report
from memfast.runtime.files import claim_output_folder, read_json, write_json

SCHEMA = "memfast.audit/1"
RESULT_FILE, PAIRS_FILE, PARQUET_FILE, PICTURES_FILE, REPORT_FILE = (
    "result.json", "pairs.csv", "pairs.parquet", "pictures.safetensors", "report.html",
)  # fmt: skip
FILES = (RESULT_FILE, PAIRS_FILE, PARQUET_FILE, PICTURES_FILE, REPORT_FILE)


@dataclass(frozen=True)
class AuditResult:
    """The result of `memfast.audit`.

    Attributes:
        figures: everything that was counted and how, as plain values.
        pairs: one row per generated sample, worst first.
        pictures: small pictures of the worst pairs, or None.
        neighbors: set name -> (squared distances, indices) of the nearest training items, for `memfast.evaluate`; not
            saved. None where the search was approximate, left out duplicates or joined near ones, or had canaries
            beside the training set.
        controls: of this audit, for others against the same training set (`audit(..., reuse=)`); not saved.
    """

    figures: dict[str, Any]
    pairs: Pairs
    pictures: Pictures | None = None
    neighbors: dict[str, tuple[np.ndarray, np.ndarray]] | None = field(default=None, compare=False, repr=False)
    controls: Controls | None = field(default=None, compare=False, repr=False)

    def to_dict(self, *, pairs: int | None = None) -> dict[str, Any]:
        """Everything as plain values for strict JSON; ``pairs`` limits the rows of the table (None: all)."""
        return {**self.figures, "pairs": list(self.pairs.rows(0, pairs))}

    def criterion(self, name: str) -> dict[str, Any]:
        """The entry of one criterion.

        Raises:
            InputError: no criterion of this name was asked for.
        """
        for entry in self.figures["criteria"]:
            if entry["name"] == name:
                return entry
        names = ", ".join(entry["name"] for entry in self.figures["criteria"])
        raise InputError("criterion", expected=f"one of {names}", received=repr(name))

    @property
    def headline(self) -> dict[str, Any] | None:
        """The entry of the first criterion that applies, or None."""
        return next((entry for entry in self.figures["criteria"] if entry["applicable"]), None)

    def fraction(self, name: str | None = None) -> float:
        """The share of samples that count as copies by this criterion (None: the first that applies).

        Raises:
            InputError: the criterion was not asked for, or does not apply to this data.
        """
        entry = self.headline if name is None else self.criterion(name)
        if entry is None or not entry["applicable"]:
            why = entry["why_not"] if entry else "no criterion applies"
            raise InputError(f"criterion {name}", expected="one that applies to this data", received=why)
        return entry["generated"]["fraction"]

    def summary(self) -> str:
        """The figures and the statement as plain text."""
        lines = []
        for entry in self.figures["criteria"]:
            if not entry["applicable"]:
                lines.append(f"{entry['title']:<38} not applied: {entry['why_not']}")
                continue
            share, floor = entry["generated"], entry["held_out"]
            low, high = (percent(end) for end in share["wilson"])
            line = f"{entry['title']:<38} {percent(share['fraction']):>8}  [{low} to {high}]"
            line += f"  {share['count']} of {share['total']}"
            lines.append(line + (f"   held-out {percent(floor['fraction'])}" if floor else ""))
        lines += [f"- {sentence}" for sentence in canary_sentences(self.figures)]
        statement = self.figures["statement"]
        for heading in ("warnings", "tested", "not_proven"):
            lines += [f"- {sentence}" for sentence in statement[heading]]
        return "\n".join(lines)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write result.json, pairs.csv (and pairs.parquet where pyarrow is installed) and the pictures.

        Files of an earlier result that this one does not have are removed, so that all in the folder are of one audit.

        Raises:
            OutputError: the folder cannot be made or written.
        """
        folder = claim_output_folder(folder, overwrite=True)
        self.pairs.write_csv(folder / PAIRS_FILE)
        if _has_pyarrow():
            self.pairs.write_parquet(folder / PARQUET_FILE)
        else:
            (folder / PARQUET_FILE).unlink(missing_ok=True)
        if self.pictures is not None:
            save_pictures(self.pictures, folder / PICTURES_FILE)
        else:
            (folder / PICTURES_FILE).unlink(missing_ok=True)
        write_json(folder / RESULT_FILE, self.figures)
        return folder

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "AuditResult":
        """Read what `save` wrote.

        Raises:
            InputError: the folder holds no result, or one of another schema.
        """
        folder = Path(folder)
        try:
            figures = read_json(folder / RESULT_FILE)
        except (OSError, json.JSONDecodeError) as error:
            raise InputError(str(folder), expected=f"a folder with {RESULT_FILE}", received=str(error)) from error
        if not isinstance(figures, dict) or figures.get("schema") != SCHEMA:
            have = figures.get("schema") if isinstance(figures, dict) else type(figures).__name__
            raise InputError(str(folder / RESULT_FILE), expected=f"schema {SCHEMA}", received=str(have))
        pictures = folder / PICTURES_FILE
        return cls(figures, Pairs.read_csv(folder / PAIRS_FILE), load_pictures(pictures) if pictures.exists() else None)

    def report(
        self,
        folder: str | os.PathLike[str],
        *,
        label: str | None = None,
        training: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        title: str | None = None,
    ) -> Path:
        """Write report.html (and the result's files) into ``folder``; returns the report's path.

        Args:
            folder: the folder.
            label: what to call this run.
            training: how the model was trained, as `memfast.reports.ReportRun` describes.
            metrics: what `memfast.evaluate` returned.
            title: the page's title.
        """
        folder = self.save(folder)
        run = self.report_run(label or "audit", training=training, metrics=metrics)
        return write_report(folder / REPORT_FILE, [run], **({} if title is None else {"title": title}))

    def report_run(
        self, label: str, *, training: Mapping[str, Any] | None = None, metrics: Mapping[str, Any] | None = None
    ) -> ReportRun:
        """This result as one run of a report; hand several to `memfast.reports.write_report` to compare them."""
        pictured = 0 if self.pictures is None else len(self.pictures.generated)
        shown = list(self.pairs.rows(0, max(pictured, 200)))
        return ReportRun(
            label, audit=self.figures, pairs=shown, total_pairs=len(self.pairs), pictures=self.pictures,
            training=None if training is None else dict(training),
            metrics=None if metrics is None else {name: _as_dict(one) for name, one in metrics.items()},
        )  # fmt: skip


def _as_dict(metric: Any) -> Mapping[str, Any]:
    return metric if isinstance(metric, Mapping) else metric.to_dict()


def _has_pyarrow() -> bool:
    from importlib.util import find_spec

    return find_spec("pyarrow") is not None
