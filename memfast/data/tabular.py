"""Tables whose rows are the items: named columns of numbers and categories become one vector per row.

Distances between rows only mean something when the columns are on one scale, and when all sets are on the same one:
``open_source(generated, like=training)`` encodes a set by the training set's figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memfast.data.labels import encode_labels
from memfast.data.not_read import PassedOver
from memfast.data.options import ReadingOptions
from memfast.data.source import ArraySource, Source
from memfast.foundation.errors import InputError

# Whole numbers beyond this have no float64 of their own.
EXACT_INTEGERS = 2**53

MOST_CATEGORIES = 1000
# Two rows of different categories are 1 apart in this column, as in Gower's distance.
CATEGORY_VALUE = float(np.sqrt(0.5))


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers and how it is scaled.

    Attributes:
        name: of the column.
        offset: is subtracted.
        factor: multiplies what remains.
        ranks: all values of the set that gives the scale, ascending, where ranks are taken; otherwise None.
    """

    name: str
    offset: float = 0.0
    factor: float = 1.0
    ranks: np.ndarray | None = None

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Values ``[N]`` as ``[N, 1]``."""
        if self.ranks is not None:
            below = np.searchsorted(self.ranks, values, "left") + np.searchsorted(self.ranks, values, "right")
            return (below / (2 * len(self.ranks)))[:, None]
        if self.factor == 1.0 and self.offset == 0.0:
            return values[:, None]
        return ((values - self.offset) * self.factor)[:, None]


@dataclass(frozen=True)
class CategoryColumn:
    """A column of categories: one value each, and one more for categories that the scale's set does not have.

    Attributes:
        name: of the column.
        categories: sorted.
    """

    name: str
    categories: tuple[str, ...]

    def encode(self, values: Sequence[str]) -> np.ndarray:
        """Categories ``[N]`` as ``[N, C + 1]``: sqrt(1/2) at the category's place."""
        places = {category: place for place, category in enumerate(self.categories)}
        found = np.array([places.get(value, len(places)) for value in values])
        encoded = np.zeros((len(found), len(places) + 1))
        encoded[np.arange(len(found)), found] = CATEGORY_VALUE
        return encoded


@dataclass(frozen=True)
class TableEncoding:
    """How the columns of a table become numbers.

    Attributes:
        columns: in order.
        scale: ``"standard"`` (mean 0, deviation 1), ``"minmax"`` (0 to 1), ``"rank"`` (mid-rank, 0 to 1), or None.
    """

    columns: tuple[NumberColumn | CategoryColumn, ...]
    scale: str | None

    @property
    def takes_numbers_as_they_are(self) -> bool:
        """Whether there are only numbers, and none is scaled."""
        return self.scale is None and all(isinstance(column, NumberColumn) for column in self.columns)

    def encode(self, columns: Mapping[str, Any], what: str) -> np.ndarray:
        """Rows ``[N, width]``.

        Raises:
            InputError: the table has other columns than this encoding.
        """
        names = [column.name for column in self.columns]
        if sorted(names) != sorted(columns):
            raise InputError(what, expected=f"the columns {', '.join(names)}", received=", ".join(columns))
        parts = []
        for column in self.columns:
            values = columns[column.name]
            if isinstance(column, NumberColumn) != isinstance(values, np.ndarray):
                kinds = ("numbers", "categories") if isinstance(column, NumberColumn) else ("categories", "numbers")
                raise InputError(f"{what}: column {column.name!r}", expected=kinds[0], received=kinds[1])
            parts.append(column.encode(values))
        return np.concatenate(parts, axis=1)


class TableSource(ArraySource):
    """Rows of a table as vectors.

    Attributes:
        encoding: how the columns became numbers.
        columns: the columns as they were read.
    """

    encoding: TableEncoding
    columns: Mapping[str, Any]

    def like(self, other: "TableSource") -> "TableSource":
        """The same rows, encoded as ``other`` is: on the training set's scale, for example.

        Raises:
            InputError: the other table has other columns.
        """
        array = other.encoding.encode(self.columns, self.name).astype(other.dtype, copy=False)
        source = TableSource(array, name=self.name, labels=self.labels, names=self._names, skipped=self.skipped)
        source.class_names, source.not_read = self.class_names, self.not_read
        source.encoding, source.columns, source.value_range = other.encoding, self.columns, other.value_range
        return source


def on_the_scale_of(training: Any, source: Source) -> Source:
    """A table as the training set's table is encoded; other sources as they are.

    Raises:
        InputError: the table has other columns, or only one of the two is a table with a scale or categories.
    """
    ours, theirs = getattr(source, "encoding", None), getattr(training, "encoding", None)
    if isinstance(source, TableSource) and isinstance(training, TableSource):
        return source if ours is theirs else source.like(training)
    for encoding, table, other in ((ours, source, training), (theirs, training, source)):
        if isinstance(encoding, TableEncoding) and not encoding.takes_numbers_as_they_are:
            raise InputError(
                getattr(other, "name", "like"), expected=f"a table with the columns of {table.name}",
                received="data without columns", do="Give both sets as tables, or both as arrays.",
            )  # fmt: skip
    return source


def fit_encoding(columns: Mapping[str, Any], scale: str | None) -> TableEncoding:
    """The encoding of a table by its own figures.

    Args:
        columns: name -> float ``[N]`` or a list of N categories.
        scale: of the numbers; a table with categories is scaled ``"minmax"`` where nothing was said, so that a
            different category counts as much as the whole range of a number.
    """
    if scale is None and not all(isinstance(values, np.ndarray) for values in columns.values()):
        scale = "minmax"
    rules: list[NumberColumn | CategoryColumn] = []
    for name, values in columns.items():
        if not isinstance(values, np.ndarray):
            rules.append(CategoryColumn(name, tuple(sorted(set(values)))))
        elif scale == "rank":
            rules.append(NumberColumn(name, ranks=np.sort(values)))
        elif scale is None:
            rules.append(NumberColumn(name))
        else:
            low, spread = (values.mean(), values.std()) if scale == "standard" else (values.min(), np.ptp(values))
            rules.append(NumberColumn(name, float(low), float(1 / spread) if spread > 0 else 1.0))
    return TableEncoding(tuple(rules), scale)


def table_source(
    columns: Mapping[str, Any], name: str, options: ReadingOptions, passed: PassedOver,
    labels: Sequence[Any] | np.ndarray | None, names: Sequence[str] | None, dtype: Any = np.float64,
) -> TableSource:  # fmt: skip
    """A source over columns that were read already.

    Raises:
        InputError: no column, too many categories, or other columns than the set whose scale is taken.
    """
    if not columns:
        raise InputError(name, expected="at least one column besides labels and names", received="none")
    for column, values in columns.items():
        distinct = 0 if isinstance(values, np.ndarray) else len(set(values))
        if distinct > MOST_CATEGORIES:
            raise InputError(
                f"{name}: column {column!r}", expected=f"numbers, or at most {MOST_CATEGORIES:,} categories",
                received=f"{distinct:,} different texts", do="Leave the column out; names of rows go in a column 'id'.",
            )  # fmt: skip
    encoding = options.like.encoding if isinstance(options.like, TableSource) else fit_encoding(columns, options.scale)
    if not encoding.takes_numbers_as_they_are:
        dtype = np.dtype(np.float64)
    array = encoding.encode(columns, name).astype(dtype, copy=False)
    if not np.isfinite(array).all():
        raise InputError(name, expected="finite values on this scale", received="a column whose range is not finite")
    found = encode_labels(labels, passed)
    source = TableSource(array, name=name, labels=found.values, names=names)
    source.class_names, source.encoding, source.columns = found.class_names, encoding, columns
    if encoding.scale in ("minmax", "rank"):
        source.value_range = (0.0, 1.0)
    return source


def rows_as_items(
    table: Any, name: str, options: ReadingOptions, passed: PassedOver, label_names: Sequence[str],
    name_columns: Sequence[str],
) -> TableSource:  # fmt: skip
    """The rows of an Arrow table of plain columns.

    Raises:
        InputError: an empty table, a missing value, or a column that holds neither numbers nor categories.
    """
    if table.num_rows == 0:
        raise InputError(name, expected="at least one row", received="none")
    if len(set(table.column_names)) != len(table.column_names):
        raise InputError(name, expected="columns of different names", received=", ".join(table.column_names))
    label = _label_column(table.column_names, options, label_names)
    names_of_rows = next((one for one in name_columns if one in table.column_names and one != label), None)
    columns, dtypes = {}, []
    for column in table.column_names:
        if column not in (label, names_of_rows):
            columns[column], dtype = _column(f"{name}: column {column!r}", table.column(column))
            dtypes.append(dtype)
    labels = None if label is None else table.column(label).to_pylist()
    names = None if names_of_rows is None else [str(one) for one in table.column(names_of_rows).to_pylist()]
    single = all(dtype is not None and np.can_cast(dtype, np.float32) for dtype in dtypes)
    return table_source(columns, name, options, passed, labels, names, np.dtype(np.float32 if single else np.float64))


def _label_column(names: Sequence[str], options: ReadingOptions, usual: Sequence[str]) -> str | None:
    wanted = options.label_column
    if wanted is None:
        return next((one for one in usual if one in names), None)
    if isinstance(wanted, int) and not isinstance(wanted, bool) and -len(names) <= wanted < len(names):
        return names[wanted]
    if wanted in names:
        return str(wanted)
    raise InputError("label_column", expected=f"one of {', '.join(names)}", received=repr(wanted))


def _column(what: str, values: Any) -> tuple[Any, np.dtype | None]:
    """A column's values and dtype: floats for numbers and times, text for categories."""
    import pyarrow.types as types

    kind = values.type
    if types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    if values.null_count:
        row = next(row for row in range(len(values)) if not values[row].is_valid)
        raise missing_value(what, row, values.null_count)
    if types.is_boolean(kind):
        return values.to_numpy().astype(np.float64), np.dtype(np.int8)
    if types.is_integer(kind) or types.is_floating(kind):
        numbers = values.to_numpy()
        bad = ~np.isfinite(numbers)
        if bad.any():
            kind = "missing" if np.isnan(numbers).any() else "infinite"
            raise missing_value(what, int(np.argmax(bad)), int(bad.sum()), kind)
        if types.is_integer(kind):
            check_exact(what, (numbers > EXACT_INTEGERS) | (numbers < -EXACT_INTEGERS), numbers)
        return numbers.astype(np.float64), numbers.dtype
    if types.is_decimal(kind):
        given = values.to_pylist()
        check_exact(
            what, np.array([one == one.to_integral_value() and int(float(one)) != int(one) for one in given]), given
        )
        return np.array([float(one) for one in given]), None
    if types.is_temporal(kind) and not types.is_interval(kind):
        return _times(values), None
    if types.is_string(kind) or types.is_large_string(kind) or str(kind) == "string_view":
        return [str(one) for one in values.to_pylist()], None
    raise InputError(
        what, expected="numbers, times or text", received=str(kind), do="Leave the column out, or convert it."
    )


def check_exact(what: str, lost: np.ndarray, values: Any) -> None:
    """Raise where whole numbers have more digits than float64 holds: different ones would become equal."""
    if lost.any():
        row = int(np.argmax(lost))
        raise InputError(
            what, expected="whole numbers up to 2**53, which float64 holds exactly",
            received=f"{values[row]} in row {row}",
            do="Make the column text (a category), take a fixed number off it, or leave it out if it is an id.",
        )  # fmt: skip


def _times(values: Any) -> np.ndarray:
    """Times and dates as seconds, durations and times of day as their own unit."""
    array = values.to_numpy()
    if array.dtype.kind == "M":
        return array.astype("datetime64[ns]").astype(np.int64) / 1e9
    if array.dtype.kind == "m":
        return array.astype("timedelta64[ns]").astype(np.int64) / 1e9
    if array.dtype.kind == "O" and hasattr(array[0], "hour") and not hasattr(array[0], "year"):
        return np.array([one.hour * 3600 + one.minute * 60 + one.second + one.microsecond / 1e6 for one in array])
    return array.astype("datetime64[ns]").astype(np.int64) / 1e9


def missing_value(what: str, row: int, count: int, kind: str = "missing") -> InputError:
    """The error for values of a column that are missing, or infinite."""
    return InputError(
        what, expected="a value in every row" if kind == "missing" else "finite values",
        received=f"{count:,} {kind}, the first in row {row}", do="Fill them in or leave those rows out.",
    )  # fmt: skip
