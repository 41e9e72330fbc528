"""Gower's distance between rows of mixed columns."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_weights
from memfast.metrics.tables.columns import CATEGORICAL, Table, open_tables

PAIRS_AT_ONCE = 1 << 20
RANGES = ("pooled", "y")


def gower_distance(
    x: Any, y: Any = None, *, categorical: Sequence[str] = (), ranges: str = "pooled", weights: Any = None
) -> np.ndarray:
    """The mean over columns of their distances: float64 ``[n, m]``, 0 to 1.

    A numeric column (numbers, dates) counts ``|a - b| / range``, at most 1; a categorical one 0 where equal, 1 where
    not. Two missing cells are equal, a missing and a present one differ by 1. A numeric column whose range is 0 counts
    0 or 1.

    Args:
        x: a data frame, or a mapping from column names to arrays, n rows.
        y: the same with m rows; None takes ``x``.
        categorical: names of number columns that are codes of categories.
        ranges: ``pooled``: greatest minus least value over both tables, as Gower has it; ``y``: over ``y`` alone, so
            that the distance to a reference table does not depend on the other rows.
        weights: of the columns, in their order; None means equal.

    Raises:
        InputError: tables that do not fit each other, bad weights.

    Source: Gower 1971, except that missing cells count as a value of their own.

    >>> gower_distance({"age": [20, 30], "sex": ["f", "m"]}, {"age": [20, 40], "sex": ["m", "m"]}).tolist()
    [[0.5, 1.0], [0.25, 0.25]]
    """
    if ranges not in RANGES:
        raise InputError("ranges", expected=f"one of {', '.join(RANGES)}", received=repr(ranges))
    tables = open_tables({"x": x} if y is None else {"x": x, "y": y}, categorical=categorical)
    first, second = tables["x"], tables.get("y", tables["x"])
    chosen = as_weights("weights", weights, len(first.names))
    spread = column_ranges([second] if ranges == "y" else [first, second])
    return np.concatenate([block for _, block in distance_blocks(first, second, spread, chosen)])


def column_ranges(tables: Sequence[Table]) -> np.ndarray:
    """Greatest minus least value of each numeric column over the tables; 0 of a column without numbers."""
    numbers = np.concatenate([table.numbers for table in tables])
    known = ~np.isnan(numbers)
    low = np.where(known, numbers, np.inf).min(axis=0)
    high = np.where(known, numbers, -np.inf).max(axis=0)
    return np.where(known.any(axis=0), high - low, 0.0)


def distance_blocks(
    x: Table, y: Table, ranges: np.ndarray, weights: np.ndarray | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """(first row of x, Gower's distances ``[some rows, m]``), row by row within a bounded memory."""
    columns = len(x.names)
    shares = np.full(columns, 1 / columns) if weights is None else weights
    categorical = np.asarray([kind == CATEGORICAL for kind in x.kinds])
    step = max(1, PAIRS_AT_ONCE // len(y))
    for start in range(0, len(x), step):
        some = slice(start, start + step)
        total = np.zeros((len(x.numbers[some]), len(y)))
        for column, share in enumerate(shares[~categorical]):
            total += share * _numeric(x.numbers[some, column], y.numbers[:, column], ranges[column])
        for column, share in enumerate(shares[categorical]):
            total += share * (x.codes[some, column][:, None] != y.codes[:, column])
        yield start, total


def nearest_rows(x: Table, y: Table, ranges: np.ndarray, *, exclude_self: bool = False) -> np.ndarray:
    """The least distance of each row of x to a row of y: float64 ``[n]``."""
    found = np.empty(len(x))
    for start, block in distance_blocks(x, y, ranges):
        if exclude_self:
            rows = np.arange(len(block))
            block[rows, rows + start] = np.inf
        found[start : start + len(block)] = block.min(axis=1)
    return found


def _numeric(x: np.ndarray, y: np.ndarray, spread: float) -> np.ndarray:
    gap = np.abs(x[:, None] - y)
    scaled = np.minimum(gap / spread, 1.0) if spread > 0 else (gap > 0).astype(np.float64)
    missing = np.isnan(x)[:, None], np.isnan(y)[None]
    return np.where(missing[0] | missing[1], missing[0] ^ missing[1], scaled)
