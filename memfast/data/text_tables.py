"""Text: tables with a header line (csv, tsv), and signals as the UCR archive writes them, one a line, label first."""

import codecs
import csv
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from memfast.data.format import Format, reading
from memfast.data.listing import Folder
from memfast.data.memory import from_array
from memfast.data.options import ReadingOptions
from memfast.data.source import Source
from memfast.data.tables import LABEL_COLUMNS, NAME_COLUMNS
from memfast.data.tabular import EXACT_INTEGERS, check_exact, missing_value, table_source
from memfast.foundation.errors import InputError

SUFFIXES = (".tsv", ".txt", ".csv", ".ts")
MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}
_GREATEST_LABEL = 2**63 - 1
_TRUTH = {"true": 1.0, "false": 0.0}
_SKTIME = ("@problemname", "@timestamps", "@univariate", "@classlabel", "@data")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
_WHOLE = re.compile(r"[+-]?\d{1,400}")


class TextTables(Format):
    """A text file: a table where its first line names the columns, otherwise signals."""

    name = "text"

    def claim(self, place: Folder) -> list[str]:
        """One text file that was given by its path; in folders, text files are captions and notes."""
        return place.ending(SUFFIXES) if place.root is None and len(place.names) == 1 else []

    def read(self, place: Folder, names: list[str], options: ReadingOptions) -> Source:
        """The rows of the table, or the signals."""
        path, what = place.path(names[0]), place.what
        place.use(names)
        options.refuse_parts(what)
        with reading(what, "a text file in UTF-8, or in UTF-16 with its mark", do="Save it as UTF-8."):
            lines = _text(path.read_bytes()).split("\n")
        is_csv = path.suffix.lower() == ".csv"
        if any(line.lower().startswith(_SKTIME) for line in lines):
            raise InputError(
                what, expected="UCR text: one signal a line, its class first", received="the .ts format of sktime",
                do="Load it with sktime.datasets.load_from_tsfile and pass the array.",
            )  # fmt: skip
        if is_csv and lines[0].startswith("#"):
            lines[0] = lines[0].lstrip("# ")  # numpy.savetxt marks its header so
        first = next((line for line in lines if _has_data(line)), "")
        delimiter = _delimiter(first)
        fields = _fields(first, delimiter)
        if any(not _is_number(field) and field.lower() not in MISSING for field in fields):
            return _table(what, lines, "," if is_csv and delimiter is None else delimiter, options, place.passed)
        return _signals(what, lines, options, is_csv)


def _table(what: str, lines: Sequence[str], delimiter: str | None, options: ReadingOptions, passed: Any) -> Source:
    with reading(what, "a table with a header line"):
        full = [line for line in lines if line.strip()]
        rows = [line.split() for line in full] if delimiter is None else _csv_rows(full, delimiter)
        header = [name.strip() for name in rows[0]]
        for number, row in enumerate(rows[1:], start=1):
            if len(row) != len(header):
                raise InputError(
                    f"{what}, row {number - 1}", expected=f"{len(header)} fields, as the header names",
                    received=str(len(row)), do="Put quotes around text that holds the delimiter.",
                )  # fmt: skip
        if len(rows) < 2:
            raise InputError(what, expected="rows below the header", received="none")
        if len(set(header)) != len(header) or "" in header:
            do = "A first column without a name is the index that pandas wrote: df.to_csv(index=False) leaves it out."
            raise InputError(
                what, expected="a different name for each column", received=", ".join(map(repr, header)),
                do="" if header[0] else do,
            )  # fmt: skip
        fields = [list(column) for column in zip(*rows[1:], strict=True)]
    by_name = dict(zip(header, fields, strict=True))
    label = _named(header, options.label_column, LABEL_COLUMNS)
    names = _named([one for one in header if one != label], None, NAME_COLUMNS)
    kept = [name for name in header if name not in (label, names)]
    columns = {name: _column(f"{what}: column {name!r}", by_name[name]) for name in kept}
    labels = None if label is None else [field.strip() for field in by_name[label]]
    return table_source(columns, what, options, passed, labels, None if names is None else by_name[names])


def _csv_rows(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    return list(csv.reader((line + "\n" for line in lines), delimiter=delimiter, strict=True))


def _named(header: Sequence[str], wanted: str | int | None, usual: Sequence[str]) -> str | None:
    if wanted is None:
        return next((name for name in usual if name in header), None)
    if isinstance(wanted, int) and not isinstance(wanted, bool) and -len(header) <= wanted < len(header):
        return header[wanted]
    if wanted in header:
        return str(wanted)
    raise InputError("label_column", expected=f"one of {', '.join(header)}", received=repr(wanted))


def _column(what: str, fields: Sequence[str]) -> Any:
    """A column of text as float64 where every field is a number, otherwise as categories."""
    values = [field.strip() for field in fields]
    missing = [row for row, value in enumerate(values) if value.lower() in MISSING]
    if missing:
        raise missing_value(what, missing[0], len(missing))
    if all(_is_number(value) for value in values):
        numbers = np.array([float(value) for value in values])
        infinite = np.flatnonzero(~np.isfinite(numbers))
        if len(infinite):
            raise missing_value(what, int(infinite[0]), len(infinite), "infinite")
        lost = [bool(_WHOLE.fullmatch(value)) and abs(int(value)) > EXACT_INTEGERS for value in values]
        check_exact(what, np.array(lost, bool), values)
        return numbers
    if all(_TIME.fullmatch(value) for value in values):
        with reading(what, "dates and times that exist"):
            return np.array(values, "datetime64[ns]").astype(np.int64) / 1e9
    if all(value.lower() in _TRUTH for value in values):
        return np.array([_TRUTH[value.lower()] for value in values])
    if all(_DECIMAL_COMMA.fullmatch(value) for value in values):
        raise InputError(what, expected="numbers with a decimal point", received=f"{values[0]!r}, with a comma")
    return values


def _signals(what: str, lines: Sequence[str], options: ReadingOptions, is_csv: bool) -> Source:
    rows: list[list[float]] = []
    labels: list[int | None] = []
    for number, line in enumerate(lines, start=1):
        if not _has_data(line):
            continue
        fields = _fields(line, _delimiter(line))
        if any(not field for field in fields):
            raise InputError(
                f"{what}, line {number}", expected="a number in every field",
                received=f"an empty field at place {fields.index('') + 1}", do="Fill it in or leave the line out.",
            )  # fmt: skip
        try:
            values = [float(field) for field in fields]
        except ValueError as error:
            raise InputError(f"{what}, line {number}", expected="a label and numbers", received=str(error)) from error
        if rows and len(values) != len(rows[0]):
            raise InputError(
                f"{what}, line {number}", expected=f"{len(rows[0])} numbers as in the first row",
                received=str(len(values)), do="Bring the signals to one length.",
            )  # fmt: skip
        rows.append(values)
        labels.append(_label(fields[0]))
    if not rows or len(rows[0]) < 2:
        raise InputError(what, expected="rows of a label and a signal", received="none")
    labelled = options.label_column is not None
    if labelled and options.label_column != 0:
        raise InputError(
            "label_column", expected="0, the first, in a file without a header", received=repr(options.label_column)
        )
    table = np.asarray(rows)
    bad = next((place for place, label in enumerate(labels) if label is None), None)
    if is_csv and not labelled:
        if bad is None:
            raise InputError(
                what, expected="a header line that names the columns",
                received="numbers only, whose first column could be a class or a value",
                do="Add a header, or pass label_column=0 if the class comes first.",
            )  # fmt: skip
        return from_array(table.astype(np.float32), name=what)
    if bad is not None:
        raise InputError(
            f"{what}, line {_line_of(lines, bad)}", expected="a class label, a whole number of at most 63 bits, first",
            received=_fields(lines[_line_of(lines, bad) - 1], _delimiter(lines[_line_of(lines, bad) - 1]))[0],
        )  # fmt: skip
    return from_array(table[:, 1:].astype(np.float32), name=what, labels=np.array(labels, np.int64))


def _text(content: bytes) -> str:
    """The text, with its line ends as ``\\n``."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if wide else "utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _label(field: str) -> int | None:
    """A class label, exactly, also written as ``1.0`` or ``1e0``; None unless it is a whole number of 63 bits."""
    try:
        value = Decimal(field)
    except InvalidOperation:
        return None
    if not value.is_finite() or abs(value) > _GREATEST_LABEL or value != value.to_integral_value():
        return None
    return int(value)


def _line_of(lines: Sequence[str], row: int) -> int:
    return [number for number, line in enumerate(lines, start=1) if _has_data(line)][row]


def _has_data(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith(("#", "@"))


def _delimiter(line: str) -> str | None:
    """Tab, semicolon, comma or bar, whichever the line has; None where white space separates."""
    return next((one for one in ("\t", ";", ",", "|") if one in line), None)


def _fields(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return line.split()
    return [field.strip().strip('"') for field in line.strip(" \r\n").split(delimiter)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text
