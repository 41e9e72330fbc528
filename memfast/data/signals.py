"""Time series as the UCR archive writes them: one signal a line, its class label first."""

from pathlib import Path
from typing import Any

import numpy as np

from memfast.data.memory import from_array
from memfast.data.source import Source
from memfast.foundation.errors import InputError


def matches(path: Path) -> bool:
    """Whether ``path`` is named like a text table of signals."""
    return path.is_file() and path.suffix.lower() in (".tsv", ".txt", ".csv", ".ts")


def read(path: Path, *, part: str | None = None, **_: Any) -> Source:
    """The signals of a UCR text file: label and values separated by tabs, commas or spaces.

    Raises:
        InputError: a line that is no row of numbers, rows of different lengths, or no rows; the line is named.
    """
    rows: list[list[float]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith(("#", "@")):
            continue
        try:
            row = [float(value) for value in line.replace(",", " ").split()]
        except ValueError as error:
            raise InputError(f"{path}, line {number}", expected="a label and numbers", received=str(error)) from error
        if rows and len(row) != len(rows[0]):
            raise InputError(
                f"{path}, line {number}", expected=f"{len(rows[0])} numbers as in the first row",
                received=str(len(row)), do="Bring the signals to one length.",
            )  # fmt: skip
        if not row[0].is_integer():
            raise InputError(
                f"{path}, line {number}", expected="a class label, a whole number, first", received=repr(row[0])
            )
        rows.append(row)
    if not rows or len(rows[0]) < 2:
        raise InputError(str(path), expected="rows of a label and a signal", received="none")
    table = np.asarray(rows)
    return from_array(table[:, 1:].astype(np.float32), name=str(path), labels=table[:, 0].astype(np.int64))
