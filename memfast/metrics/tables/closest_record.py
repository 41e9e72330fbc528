"""Distance to the closest record (DCR) of synthetic tables, by SDMetrics' definitions, and identifiability."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.metrics.identifiability import Identifiability
from memfast.metrics.intervals import Interval, share_interval
from memfast.metrics.tables.columns import MISSING, Table, open_tables
from memfast.metrics.tables.gower import column_ranges, nearest_rows


@dataclass(frozen=True)
class BaselineProtection:
    """How far synthetic rows are from the real ones, measured against random rows.

    Attributes:
        score: median DCR of the synthetic rows over that of random rows, at most 1; 0 to 1, higher is safer.
        synthetic_median: the former.
        baseline_median: the latter.
    """

    score: float
    synthetic_median: float
    baseline_median: float


@dataclass(frozen=True)
class OverfittingProtection:
    """Whether synthetic rows are closer to the training rows than to held-out ones.

    Attributes:
        score: ``min(2 (1 - closer_to_training), 1)``; 0 to 1, higher is safer.
        closer_to_training: share of synthetic rows that are closer to the training table; ties count as not closer.
        interval: Clopper and Pearson's interval of that share.
        closer_to_held_out: the other share.
    """

    score: float
    closer_to_training: float
    interval: Interval
    closer_to_held_out: float


def distance_to_closest_record(synthetic: Any, real: Any, *, categorical: Sequence[str] = ()) -> np.ndarray:
    """Gower's distance of each synthetic row to the nearest real row: float64 ``[n]``, 0 to 1; 0 is an exact copy.

    Numbers are measured in the range of the real table.

    Args:
        synthetic: a data frame, or a mapping from column names to arrays.
        real: the same columns.
        categorical: names of number columns that are codes of categories.

    Raises:
        InputError: tables that do not fit each other.

    Source: SDMetrics (``calculate_dcr``).
    """
    tables = open_tables({"synthetic": synthetic, "real": real}, categorical=categorical)
    return nearest_rows(tables["synthetic"], tables["real"], column_ranges([tables["real"]]))


def dcr_baseline_protection(
    synthetic: Any, real: Any, *, categorical: Sequence[str] = (), seed: int = 0
) -> BaselineProtection:
    """The median DCR of synthetic rows, divided by that of rows whose columns are drawn uniformly and independently.

    0 where at least half of the synthetic rows are copies, 1 where they are as far away as noise, which says nothing of
    their use. A good generator lies between.

    Args:
        synthetic: a data frame, or a mapping from column names to arrays.
        real: the table that the generator learned from.
        categorical: names of number columns that are codes of categories.
        seed: of the random rows, as many as the synthetic ones.

    Raises:
        InputError: tables that do not fit each other, or random rows of which half are real ones.

    Source: SDMetrics ``DCRBaselineProtection``.
    """
    whole_number("seed", seed, least=0)
    tables = open_tables({"synthetic": synthetic, "real": real}, categorical=categorical)
    reference, ranges = tables["real"], column_ranges([tables["real"]])
    random = _uniform_rows(reference, len(tables["synthetic"]), np.random.default_rng(seed))
    medians = [float(np.median(nearest_rows(rows, reference, ranges))) for rows in (tables["synthetic"], random)]
    if medians[1] == 0:
        raise InputError(
            "real", expected="a table in which random rows are not mostly real ones", received="a median distance of 0",
            do="The score is not defined for so few different rows.",
        )  # fmt: skip
    return BaselineProtection(min(medians[0] / medians[1], 1.0), medians[0], medians[1])


def dcr_overfitting_protection(
    synthetic: Any, training: Any, held_out: Any, *, categorical: Sequence[str] = ()
) -> OverfittingProtection:
    """Whether synthetic rows lie closer to the training rows than to held-out rows of the same source.

    1 where no more than half of them do. The two tables should be of one size: the larger one is closer to everything.

    Args:
        synthetic: a data frame, or a mapping from column names to arrays.
        training: the table that the generator learned from.
        held_out: real rows that it did not see.
        categorical: names of number columns that are codes of categories.

    Raises:
        InputError: tables that do not fit each other.

    Source: SDMetrics ``DCROverfittingProtection``.
    """
    tables = open_tables({"synthetic": synthetic, "training": training, "held_out": held_out}, categorical=categorical)
    distances = [
        nearest_rows(tables["synthetic"], tables[name], column_ranges([tables[name]]))
        for name in ("training", "held_out")
    ]
    closer = distances[0] < distances[1]
    share = float(closer.mean())
    return OverfittingProtection(min(2 * (1 - share), 1.0), share, share_interval(closer), 1 - share)


def table_identifiability(synthetic: Any, real: Any, *, categorical: Sequence[str] = ()) -> Identifiability:
    """As `memfast.metrics.identifiability`, for tables, by Gower's distance in the ranges of the real table.

    Args:
        synthetic: a data frame, or a mapping from column names to arrays.
        real: the table that the generator learned from, two rows or more.
        categorical: names of number columns that are codes of categories.

    Raises:
        InputError: tables that do not fit each other, or a single real row.
    """
    tables = open_tables({"synthetic": synthetic, "real": real}, categorical=categorical)
    reference, ranges = tables["real"], column_ranges([tables["real"]])
    if len(reference) < 2:
        raise InputError("real", expected="at least 2 rows", received="1")
    among_real = nearest_rows(reference, reference, ranges, exclude_self=True)
    identified = nearest_rows(reference, tables["synthetic"], ranges) < among_real
    return Identifiability(float(identified.mean()), share_interval(identified), identified)


def _uniform_rows(table: Table, count: int, generator: np.random.Generator) -> Table:
    """Each column uniform over the range or the categories of the table's, missing as often as there."""
    numbers, codes = np.empty((count, table.numbers.shape[1])), np.empty((count, table.codes.shape[1]), np.int64)
    for column, values in enumerate(table.numbers.T):
        known = values[~np.isnan(values)]
        if not len(known):
            numbers[:, column] = np.nan
            continue
        low, high = known.min(), known.max()
        drawn = (
            generator.integers(int(low), int(high) + 1, count).astype(np.float64)
            if table.whole[column]
            else generator.uniform(low, high, count)
        )
        numbers[:, column] = np.where(generator.random(count) < 1 - len(known) / len(values), np.nan, drawn)
    for column, cells in enumerate(table.codes.T):
        known = np.unique(cells[cells != MISSING])
        drawn = generator.choice(known, count) if len(known) else np.full(count, MISSING)
        codes[:, column] = np.where(generator.random(count) < (cells == MISSING).mean(), MISSING, drawn)
    return Table(table.names, table.kinds, numbers, codes, table.whole)
