"""Tables of mixed columns, as arrays: numbers and dates as float64, categories as codes, missing cells kept apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memfast.foundation.arrays import require_unmasked
from memfast.foundation.errors import InputError

NUMERIC, CATEGORICAL = "numeric", "categorical"
MISSING = -1


@dataclass(frozen=True)
class Table:
    """The rows of one table in the codes that it shares with the others.

    Attributes:
        names: names of the columns.
        kinds: ``numeric`` (numbers and dates) or ``categorical`` (text, booleans and all else), per column.
        numbers: float64 ``[n, numeric columns]``; dates in seconds; NaN where a cell is missing.
        codes: int64 ``[n, categorical columns]``; -1 where a cell is missing.
        whole: bool ``[numeric columns]``: whether a column holds integers.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    numbers: np.ndarray
    codes: np.ndarray
    whole: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: np.ndarray) -> "Table":
        """The rows of these indices."""
        return Table(self.names, self.kinds, self.numbers[rows], self.codes[rows], self.whole)


def open_tables(tables: Mapping[str, Any], *, categorical: Sequence[str] = ()) -> dict[str, Table]:
    """Open tables with the same columns.

    A column is categorical where it holds text, booleans or objects, or is named in ``categorical``; numbers and dates
    are numeric. None, NaN, NaT and pandas' NA are missing cells. Columns are matched by name.

    Args:
        tables: name, for errors -> a pandas or polars data frame, or a mapping from column names to arrays.
        categorical: names of number columns that are codes of categories.

    Raises:
        InputError: no rows, other columns than the first table's, columns of different length or kind, infinities.
    """
    columns = {name: _columns(name, table) for name, table in tables.items()}
    first = next(iter(columns))
    names = tuple(columns[first])
    for name, table in columns.items():
        if set(table) != set(names):
            raise InputError(name, expected=f"the columns {', '.join(names)}, as {first}", received=", ".join(table))
    unknown = sorted(set(categorical) - set(names))
    if unknown:
        raise InputError("categorical", expected=f"columns among {', '.join(names)}", received=", ".join(unknown))
    kinds = tuple(
        _kind(column, {name: table[column] for name, table in columns.items()}, categorical) for column in names
    )
    encoders: dict[str, dict[Any, int]] = {column: {} for column in names}
    return {name: _encode(name, table, names, kinds, encoders) for name, table in columns.items()}


def _columns(name: str, table: Any) -> dict[str, np.ndarray]:
    if isinstance(table, Mapping):
        columns = dict(table)
    elif hasattr(table, "columns") and hasattr(table, "__getitem__"):
        columns = {column: table[column] for column in table.columns}
    else:
        raise InputError(
            name, expected="a data frame, or a mapping from column names to arrays", received=type(table).__name__
        )
    if not columns:
        raise InputError(name, expected="at least one column", received="none")
    arrays = {}
    for column, values in columns.items():
        require_unmasked(f"{name}, column {column}", values)
        array = values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)
        if array.ndim != 1 or not len(array):
            raise InputError(
                f"{name}, column {column}", expected="one cell per row and at least one row",
                received=f"shape {list(array.shape)}",
            )  # fmt: skip
        arrays[str(column)] = array
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) > 1:
        raise InputError(name, expected="columns of one length", received=f"lengths {sorted(lengths)}")
    return arrays


def _kind(column: str, arrays: Mapping[str, np.ndarray], categorical: Sequence[str]) -> str:
    if column in categorical:
        return CATEGORICAL
    kinds = {name: NUMERIC if _is_numeric(array) else CATEGORICAL for name, array in arrays.items()}
    if len(set(kinds.values())) > 1:
        described = ", ".join(f"{name}: {kind}" for name, kind in kinds.items())
        raise InputError(
            f"column {column}", expected="one kind in all tables", received=described,
            do="Convert it, or name it in categorical=[...].",
        )  # fmt: skip
    return next(iter(kinds.values()))


def _is_numeric(array: np.ndarray) -> bool:
    if array.dtype.kind in "iufmM":
        return True
    if array.dtype.kind != "O":
        return False
    present = [cell for cell in array if not _is_missing(cell)]
    return bool(present) and all(
        isinstance(cell, int | float | np.number) and not isinstance(cell, bool) for cell in present
    )


def _encode(
    name: str, columns: Mapping[str, np.ndarray], names: tuple[str, ...], kinds: tuple[str, ...],
    encoders: Mapping[str, dict[Any, int]],
) -> Table:  # fmt: skip
    numbers, codes, whole = [], [], []
    for column, kind in zip(names, kinds, strict=True):
        array = columns[column]
        if kind == CATEGORICAL:
            codes.append(_codes(array, encoders[column]))
            continue
        values = _as_numbers(array)
        if np.isinf(values).any():
            raise InputError(f"{name}, column {column}", expected="finite numbers", received="an infinity")
        numbers.append(values)
        whole.append(array.dtype.kind in "iu")
    rows = len(next(iter(columns.values())))
    stacked = [np.stack(part, axis=1) if part else np.empty((rows, 0)) for part in (numbers, codes)]
    return Table(names, kinds, stacked[0], stacked[1].astype(np.int64), np.asarray(whole, bool))


def _as_numbers(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind in "mM":
        ticks = array.astype(array.dtype.str[:2] + "8[ns]")
        return np.where(np.isnat(ticks), np.nan, ticks.astype(np.int64) / 1e9)
    if array.dtype.kind == "O":
        return np.asarray([np.nan if _is_missing(cell) else float(cell) for cell in array])
    return array.astype(np.float64)


def _codes(array: np.ndarray, encoder: dict[Any, int]) -> np.ndarray:
    return np.asarray(
        [MISSING if _is_missing(cell) else encoder.setdefault(cell, len(encoder)) for cell in array.tolist()], np.int64
    )


def _is_missing(cell: Any) -> bool:
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(cell, float) and cell != cell
