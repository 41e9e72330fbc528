"""The table of pairs: for every generated sample the training item it is nearest to, worst first."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memfast.criteria import Evidence, Judgement
from memfast.data import Source
from memfast.foundation.errors import InputError, MissingPackageError
from memfast.foundation.spreadsheet import guarded, unguarded
from memfast.runtime.files import atomic_path, write_text

FIXED = ("generated", "training", "generated_name", "training_name", "distance", "ratio", "criteria")
WHOLE = ("generated", "training", "generated_label", "training_label")
TEXT = ("generated_name", "training_name", "criteria")


@dataclass(frozen=True)
class Pairs:
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

    def write_csv(self, path: Path) -> None:
        """Write all rows; numbers with all their digits.

        Names come from the data, and spreadsheets run text that begins with ``=``, ``+``, ``-`` or ``@``: such a name
        (and one that begins with a quote) gets a single quote before it, which `read_csv` takes away again.
        """
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow(self.columns)
        # Numbers stay bare; quotes around all text keep a lone carriage return inside its field.
        writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        columns = [
            [guarded(value) for value in column] if name in TEXT else column for name, column in self.columns.items()
        ]
        writer.writerows(zip(*columns, strict=True))
        write_text(path, text.getvalue())

    def write_parquet(self, path: Path) -> None:
        """Write all rows as parquet.

        Raises:
            MissingPackageError: pyarrow is not installed.
        """
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise MissingPackageError("pyarrow", purpose="writing parquet", extra="audit") from error
        with atomic_path(path) as temporary:
            parquet.write_table(pyarrow.table(self.columns), temporary)

    @classmethod
    def read_csv(cls, path: Path) -> "Pairs":
        """Read what `write_csv` wrote.

        Raises:
            InputError: it is not such a file.
        """
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        if not rows or not set(FIXED) <= set(rows[0]) or any(len(row) != len(rows[0]) for row in rows):
            raise InputError(str(path), expected="a pairs table written by memfast", received="something else")
        columns = {name: [row[number] for row in rows[1:]] for number, name in enumerate(rows[0])}
        return cls({name: _typed(name, column) for name, column in columns.items()})


def make_pairs(
    generated: Source,
    training: Source,
    evidence: Evidence,
    judgements: dict[str, Judgement],
    *,
    kept: np.ndarray,
    labels: np.ndarray | None,
    training_labels: np.ndarray | None,
) -> Pairs:
    """Build the table.

    Args:
        generated: the generated samples.
        training: the training set as given.
        evidence: of the generated samples.
        judgements: by criterion's name.
        kept: which items of ``training`` the evidence's indices are about.
        labels: of the generated samples, or None.
        training_labels: of the training set as given, or None.
    """
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
        columns[f"score_{name}"] = judgement.scores[order].tolist()
        partners = kept[judgement.partners]
        if not np.array_equal(partners, nearest):
            columns[f"partner_{name}"] = partners[order].tolist()
    return Pairs(columns)


def _ratio(evidence: Evidence) -> np.ndarray:
    if evidence.neighbours < 2:
        return np.full(len(evidence), np.nan)
    first, second = (evidence.squared_distances[:, column].astype(np.float64) for column in (0, 1))
    return np.sqrt(np.divide(first, second, out=np.ones_like(first), where=second > 0))


def _typed(name: str, column: Sequence[str]) -> list[Any]:
    if name in TEXT:
        return [unguarded(value) for value in column]
    if name in WHOLE or name.startswith("partner_"):
        return [int(value) for value in column]
    return [float(value) if value else None for value in column]
