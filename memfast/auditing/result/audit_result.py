"""What an audit returns: figures, pairs and pictures, saved without pickles and reported without computing."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from memfast.auditing.controls import Controls
from memfast.auditing.result.files import METRICS_FILE, REPORT_FILE, read_result, write_result
from memfast.auditing.result.pairs import PairTable
from memfast.auditing.result.statement import canary_sentences
from memfast.foundation.errors import InputError
from memfast.foundation.values import one_line, percent, plain
from memfast.reports import Pictures, ReportRun, render
from memfast.results import AuditFigures, CriterionResult, read_figures
from memfast.runtime.files import json_text

SHOWN_PAIRS = 200


@dataclass(frozen=True)
class AuditResult:
    """The result of `memfast.audit`.

    Attributes:
        found: everything that was counted and how, as typed values. Plain values (``figures``) are read into them.
        pairs: one row per generated sample, worst first.
        pictures: small pictures of the worst pairs, or None.
        neighbors: set name -> (squared distances, indices) of the nearest training items, for `memfast.evaluate`; not
            saved. None where the search was approximate, left out duplicates or joined near ones, or had canaries
            beside the training set.
        controls: of this audit, for others against the same training set (`audit(..., reuse=)`); not saved.
    """

    found: AuditFigures
    pairs: PairTable
    pictures: Pictures | None = None
    neighbors: dict[str, tuple[np.ndarray, np.ndarray]] | None = field(default=None, compare=False, repr=False)
    controls: Controls | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.found, AuditFigures):
            object.__setattr__(self, "found", read_figures(self.found))

    def __repr__(self) -> str:
        inputs = self.found.inputs
        return f"AuditResult({inputs.generated.count:,} samples against {inputs.training.count:,} training items)"

    @cached_property
    def figures(self) -> dict[str, Any]:
        """Everything that was counted, as plain values: what result.json holds."""
        return plain(self.found)

    @property
    def criteria(self) -> tuple[CriterionResult, ...]:
        """What each criterion found, in the order in which they were asked for."""
        return self.found.criteria

    def to_dict(self, *, pairs: int | None = None) -> dict[str, Any]:
        """Everything as plain values for strict JSON; ``pairs`` limits the rows of the table (None: all)."""
        return {**self.figures, "pairs": list(self.pairs.rows(0, pairs))}

    def criterion(self, name: str) -> dict[str, Any]:
        """The entry of one criterion in `figures`; ``result.found.criterion(name)`` has its fields as attributes.

        Raises:
            InputError: no criterion of this name was asked for.
        """
        return self.figures["criteria"][self.criteria.index(self.found.criterion(name))]

    @property
    def headline(self) -> dict[str, Any] | None:
        """The entry in `figures` of the first criterion that applies, or None."""
        return None if self.found.headline is None else self.criterion(self.found.headline.name)

    def fraction(self, name: str | None = None) -> float:
        """The share of samples that count as copies by this criterion (None: the first that applies).

        Raises:
            InputError: the criterion was not asked for, or does not apply to this data.
        """
        entry = self.found.headline if name is None else self.found.criterion(name)
        if entry is None:
            raise InputError(
                "criterion None", expected="one that applies to this data", received="no criterion applies"
            )
        return entry.copies.fraction

    def summary(self) -> str:
        """The figures and the statement as plain text."""
        lines = []
        for entry in self.criteria:
            share, floor = entry.generated, entry.held_out
            if share is None:
                lines.append(f"{entry.title:<38} not applied: {entry.why_not}")
                continue
            low, high = (percent(end) for end in share.wilson)
            line = f"{entry.title:<38} {percent(share.fraction):>8}  [{low} to {high}]"
            line += f"  {share.count} of {share.total}"
            lines.append(line + (f"   held-out {percent(floor.fraction)}" if floor else ""))
        lines += [f"- {sentence}" for sentence in canary_sentences(self.found)]
        statement = self.found.statement
        for sentences in (statement.warnings, statement.tested, statement.not_proven):
            lines += [f"- {sentence}" for sentence in sentences]
        return "\n".join(map(one_line, lines))

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write result.json, pairs.csv (and pairs.parquet where pyarrow is installed) and the pictures.

        They are switched by one rename: after a kill at any moment the folder holds the old result or this one. Files
        of an earlier result that this one does not have are removed, so that all in the folder are of one audit.

        Raises:
            OutputError: the folder cannot be made or written.
        """
        return write_result(folder, self.found, self.pairs, self.pictures)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "AuditResult":
        """Read what `save` wrote, also what earlier versions did.

        Raises:
            InputError: the folder holds no result, one of another schema, or a file that was damaged or changed.
        """
        return cls(*read_result(folder))

    def report(
        self,
        folder: str | os.PathLike[str],
        *,
        label: str | None = None,
        training: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        title: str | None = None,
    ) -> Path:
        """Write report.html and the result's files (and metrics.json) into ``folder``; returns the report's path.

        Args:
            folder: the folder.
            label: what to call this run.
            training: how the model was trained, as `memfast.reports.ReportRun` describes.
            metrics: what `memfast.evaluate` returned.
            title: the page's title.

        Raises:
            OutputError: the folder cannot be made or written; what was there is whole.
        """
        run = self.report_run(label or "audit", training=training, metrics=metrics)
        more = {REPORT_FILE: render([run], **({} if title is None else {"title": title}))}
        if run.metrics is not None:
            more[METRICS_FILE] = json_text(plain(run.metrics))
        return write_result(folder, self.found, self.pairs, self.pictures, more) / REPORT_FILE

    def report_run(
        self, label: str, *, training: Mapping[str, Any] | None = None, metrics: Mapping[str, Any] | None = None
    ) -> ReportRun:
        """This result as one run of a report; hand several to `memfast.reports.write_report` to compare them."""
        pictured = 0 if self.pictures is None else len(self.pictures.generated)
        shown = list(self.pairs.rows(0, max(pictured, SHOWN_PAIRS)))
        return ReportRun(
            label, audit=self.found, pairs=shown, total_pairs=len(self.pairs), pictures=self.pictures,
            training=None if training is None else dict(training),
            metrics=None if metrics is None else {name: _as_dict(one) for name, one in metrics.items()},
        )  # fmt: skip


def _as_dict(metric: Any) -> Mapping[str, Any]:
    return metric if isinstance(metric, Mapping) else metric.to_dict()
