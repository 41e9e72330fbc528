"""The table of pairs: for every generated sample the training item it is nearest to, worst first."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memfast.auditing.judging import Judged
from memfast.auditing.opened import OpenedAudit
from memfast.criteria import Evidence
from memfast.foundation.errors import InputError, MissingPackageError, first_line
from memfast.foundation.spreadsheet import guarded, unguarded
from memfast.runtime.files import write_bytes, write_text

FIXED = ("generated", "training", "generated_name", "training_name", "distance", "ratio", "criteria")
WHOLE = ("generated", "training", "generated_label", "training_label")
TEXT = ("generated_name", "training_name", "criteria")
LARGEST = 2**63 - 1


@dataclass(frozen=True)
class PairTable:
    """Columns of equal length, one row per generated sample, worst first.

    Columns: ``generated`` and ``training`` (indices into the sets as given), their names and labels, ``distance``
    (root-mean-square, [0, 1] units), ``ratio`` (d1/d2), ``criteria`` (names of those that fire, separated by spaces)
    and ``score_<criterion>`` for each that applies. Worst first: more criteria fire, then the lower distance ratio,
    then the lower distance.
    """

    columns: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(self.columns["generated"])

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[dict[str, Any]]:
        """The rows of this range as dictionaries."""
        for index in range(*slice(start, stop).indices(len(self))):
            yield {name: column[index] for name, column in self.columns.items()}

    def labels(self, side: str) -> np.ndarray | None:
        """Class labels of the ``generated`` samples in their own order, or of each one's ``training`` item; or None."""
        column = self.columns.get(f"{side}_label")
        if column is None:
            return None
        labels = np.empty(len(self), np.int64)
        labels[self.columns["generated"]] = column
        return labels

    def to_csv(self) -> str:
        """All rows as a file; numbers with all their digits.

        Names come from the data, and spreadsheets run text that begins with ``=``, ``+``, ``-`` or ``@``, after a
        separator too: such a place in a name gets a single quote, which `read_csv` takes away again.
        """
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow(self.columns)
        # Numbers stay bare; quotes around all text keep a lone carriage return inside its field.
        writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        columns = [
            [guarded(value) for value in column] if name in TEXT else column for name, column in self.columns.items()
        ]
        writer.writerows(zip(*columns, strict=True))
        return text.getvalue()

    def to_parquet(self) -> bytes:
        """All rows as a parquet file.

        Raises:
            MissingPackageError: pyarrow is not installed.
        """
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise MissingPackageError("pyarrow", purpose="writing parquet", extra="audit") from error
        file = io.BytesIO()
        parquet.write_table(pyarrow.table(self.columns), file)
        return file.getvalue()

    def write_csv(self, path: Path) -> None:
        """Write `to_csv` to a file, atomically."""
        write_text(path, self.to_csv())

    def write_parquet(self, path: Path) -> None:
        """Write `to_parquet` to a file, atomically."""
        write_bytes(path, self.to_parquet())

    @classmethod
    def read_csv(cls, path: Path, *, first_schema: bool = False) -> "PairTable":
        """Read what `write_csv` wrote.

        Args:
            path: the file.
            first_schema: it was written with a result of the first schema, whose names were guarded at their start
                only.

        Raises:
            InputError: it is not such a file.
        """
        try:
            with open(path, encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file))
        except (OSError, ValueError, csv.Error) as error:
            raise _not_pairs(path, first_line(error)) from error
        if not rows or not set(FIXED) <= set(rows[0]) or len(set(rows[0])) != len(rows[0]):
            raise _not_pairs(path, "other columns")
        if any(len(row) != len(rows[0]) for row in rows):
            raise _not_pairs(path, "rows of other lengths")
        columns: dict[str, list[Any]] = {}
        for number, name in enumerate(rows[0]):
            column = [row[number] for row in rows[1:]]
            if name in TEXT:
                columns[name] = [unguarded(one, start_only=first_schema) for one in column]
            else:
                columns[name] = _numbers(path, name, column)
        if sorted(columns["generated"]) != list(range(len(rows) - 1)):
            raise _not_pairs(path, "a column 'generated' that does not name each sample once")
        return cls(columns)


def make_pairs(opened: OpenedAudit, judged: Judged) -> PairTable:
    """Build the table.

    Args:
        opened: the sets and their labels.
        judged: the generated samples' neighbours, and what each criterion says of them.
    """
    generated, training, kept = opened.sets.generated, opened.sets.training, opened.kept
    labels, training_labels = opened.classes.generated, opened.classes.training
    evidence, judgements = judged.evidence, judged.judgements
    nearest = kept[evidence.indices[:, 0]]
    distance = evidence.rms()
    ratio = _ratio(evidence)
    flags = {name: judgement.flags for name, judgement in judgements.items()}
    fired = np.sum(list(flags.values()), axis=0) if flags else np.zeros(len(evidence), np.int64)
    order = np.lexsort((np.arange(len(evidence)), distance, np.nan_to_num(ratio, nan=1.0), -fired))
    columns: dict[str, list[Any]] = {
        "generated": order.tolist(),
        "training": nearest[order].tolist(),
        "generated_name": [generated.item_name(int(index)) for index in order],
        "training_name": [training.item_name(int(index)) for index in nearest[order]],
    }
    if labels is not None:
        columns["generated_label"] = labels[order].tolist()
    if training_labels is not None:
        columns["training_label"] = training_labels[nearest[order]].tolist()
    columns["distance"] = distance[order].tolist()
    columns["ratio"] = ratio[order].tolist() if evidence.neighbours > 1 else [None] * len(evidence)
    columns["criteria"] = [" ".join(name for name, one in flags.items() if one[index]) for index in order]
    for name, judgement in judgements.items():
        scores = judgement.scores[order].tolist()
        if judgement.judged is not None:
            scores = [None if math.isnan(score) else score for score in scores]
        columns[f"score_{name}"] = scores
        partners = kept[judgement.partners]
        if not np.array_equal(partners, nearest):
            columns[f"partner_{name}"] = partners[order].tolist()
    return PairTable(columns)


def _ratio(evidence: Evidence) -> np.ndarray:
    if evidence.neighbours < 2:
        return np.full(len(evidence), np.nan)
    first, second = (evidence.squared_distances[:, column].astype(np.float64) for column in (0, 1))
    return np.sqrt(np.divide(first, second, out=np.ones_like(first), where=second > 0))


def _numbers(path: Path, name: str, column: Sequence[str]) -> list[Any]:
    """The cells of a column of numbers: indices and labels are whole, an empty score is None."""
    whole = name in WHOLE or name.startswith("partner_")
    least = 0 if whole and not name.endswith("_label") else -math.inf
    try:
        numbers = [(int(value) if whole else float(value)) if value or whole else None for value in column]
    except ValueError as error:
        raise _not_pairs(path, f"in column {name!r}: {first_line(error)}") from error
    if not all(one is None or (least <= one <= LARGEST and math.isfinite(one)) for one in numbers):
        raise _not_pairs(path, f"a number out of range in column {name!r}")
    return numbers


def _not_pairs(path: Path, received: str) -> InputError:
    return InputError(str(path), expected="a pairs table written by memfast", received=received)
