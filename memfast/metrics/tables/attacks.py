"""Singling out, linkability and inference: three attacks that read a synthetic table only, and their risks.

Each is run on rows that the generator learned from and on rows that it did not: only the excess is its fault.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.foundation.proportions import DEFAULT_CONFIDENCE, Interval, Proportion
from memfast.metrics.tables.columns import CATEGORICAL, Table, open_tables
from memfast.metrics.tables.gower import column_ranges, distance_blocks

ATTACKS = 500
SINGLING_OUT_COLUMNS = 3
TRIES_PER_QUERY = 200
TOLERANCE = 0.05


@dataclass(frozen=True)
class AttackRisk:
    """How much better an attack does on training rows than on others.

    Attributes:
        risk: ``(attack - control) / (1 - control)`` of the centres of the two Wilson intervals, as Anonymeter takes it,
            0 to 1; 0 where the attack does no better on training rows. With few attacks it stays below 1.
        interval: of the risk, from the two Wilson intervals.
        attack: success on training rows.
        control: success on rows that the generator did not see.
        baseline: success of guessing. An attack that is not better than its baseline was too weak to show anything.
    """

    risk: float
    interval: Interval
    attack: Proportion
    control: Proportion
    baseline: Proportion

    @property
    def strong_enough(self) -> bool:
        """Whether the attack beats guessing, without which a low risk means nothing."""
        return self.attack.fraction > self.baseline.fraction


def singling_out_risk(
    synthetic: Any,
    training: Any,
    control: Any,
    *,
    columns: int = SINGLING_OUT_COLUMNS,
    attacks: int = ATTACKS,
    categorical: Sequence[str] = (),
    confidence: float = DEFAULT_CONFIDENCE,
    seed: int = 0,
) -> AttackRisk:
    """Can predicates that single out one synthetic row single out one training row?

    A predicate takes a synthetic row and some of its columns: equal to a category, at least a number above the median,
    at most one below it. Those that match one synthetic row only are tried on the other tables. The control table is
    matched on as many rows as the training table; where it is smaller, both are cut to its size.

    Args:
        synthetic: a data frame, or a mapping from column names to arrays.
        training: the table that the generator learned from.
        control: real rows that it did not see.
        columns: columns per predicate.
        attacks: predicates; fewer where the table gives no more.
        categorical: names of number columns that are codes of categories.
        confidence: of the intervals.
        seed: of rows, columns and cuts.

    Raises:
        InputError: tables that do not fit each other, more columns than there are, or no predicate that singles out.

    Source: Giomi et al. 2023 (Anonymeter), multivariate predicates.
    """
    tables = open_tables({"synthetic": synthetic, "training": training, "control": control}, categorical=categorical)
    made = tables["synthetic"]
    whole_number("columns", columns, least=1, greatest=len(made.names))
    whole_number("attacks", attacks, least=1)
    generator = np.random.default_rng(whole_number("seed", seed, least=0))
    rows = min(len(tables["training"]), len(tables["control"]))
    known, unknown = (_sample(tables[name], rows, generator) for name in ("training", "control"))
    medians = np.asarray([np.median(column[~np.isnan(column)]) if (~np.isnan(column)).any() else 0.0
                          for column in made.numbers.T])  # fmt: skip
    seen: set[tuple[Any, ...]] = set()
    hits, tried = np.zeros(3, np.int64), 0
    for _ in range(TRIES_PER_QUERY * attacks):
        if tried == attacks:
            break
        row = int(generator.integers(len(made)))
        chosen = tuple(sorted(generator.permutation(len(made.names))[:columns].tolist()))
        predicate = _predicate(made, row, chosen, medians)
        if predicate in seen or _matches(made, predicate) != 1:
            continue
        seen.add(predicate)
        tried += 1
        guess = _predicate(made, int(generator.integers(len(made))), chosen, medians, generator)
        hits += [_matches(known, predicate) == 1, _matches(unknown, predicate) == 1, _matches(known, guess) == 1]
    if not tried:
        raise InputError(
            "columns", expected="predicates that match one synthetic row", received="none",
            do="Use more columns per predicate.",
        )  # fmt: skip
    return _risk(hits, tried, confidence)


def linkability_risk(
    synthetic: Any,
    training: Any,
    control: Any,
    *,
    first: Sequence[str],
    second: Sequence[str],
    neighbors: int = 1,
    attacks: int = ATTACKS,
    categorical: Sequence[str] = (),
    confidence: float = DEFAULT_CONFIDENCE,
    seed: int = 0,
) -> AttackRisk:
    """Can two halves of a record be joined through a synthetic row that is nearest to both?

    Args:
        synthetic: a data frame, or a mapping from column names to arrays.
        training: the table that the generator learned from.
        control: real rows that it did not see.
        first: columns that one holder of the data knows.
        second: columns that the other one knows; none of ``first``.
        neighbors: synthetic rows per half that are compared.
        attacks: rows that are attacked; fewer where a table has fewer.
        categorical: names of number columns that are codes of categories.
        confidence: of the intervals.
        seed: of the rows and of the guesses.

    Raises:
        InputError: tables that do not fit each other, unknown or shared columns.

    Source: Giomi et al. 2023 (Anonymeter).
    """
    tables = open_tables({"synthetic": synthetic, "training": training, "control": control}, categorical=categorical)
    made = tables["synthetic"]
    if set(first) & set(second):
        raise InputError("second", expected="columns that are not in first", received=str(set(first) & set(second)))
    whole_number("neighbors", neighbors, least=1, greatest=len(made))
    whole_number("attacks", attacks, least=1)
    generator = np.random.default_rng(whole_number("seed", seed, least=0))
    count = min(attacks, len(tables["training"]), len(tables["control"]))
    hits = []
    for name in ("training", "control"):
        targets = _sample(tables[name], count, generator)
        halves = [_nearest(_part(targets, part), _part(made, part), neighbors) for part in (first, second)]
        hits.append(int((halves[0][:, :, None] == halves[1][:, None, :]).any(axis=(1, 2)).sum()))
    guesses = [_random_rows(len(made), count, neighbors, generator) for _ in range(2)]
    hits.append(int((guesses[0][:, :, None] == guesses[1][:, None, :]).any(axis=(1, 2)).sum()))
    return _risk(np.asarray(hits), count, confidence)


def inference_risk(
    synthetic: Any,
    training: Any,
    control: Any,
    *,
    known: Sequence[str],
    secret: str,
    tolerance: float = TOLERANCE,
    attacks: int = ATTACKS,
    categorical: Sequence[str] = (),
    confidence: float = DEFAULT_CONFIDENCE,
    seed: int = 0,
) -> AttackRisk:
    """Can an unknown column of a record be read off the nearest synthetic row?

    Args:
        synthetic: a data frame, or a mapping from column names to arrays.
        training: the table that the generator learned from.
        control: real rows that it did not see.
        known: columns that the attacker knows.
        secret: the column to infer; not among ``known``.
        tolerance: a number counts as inferred within this share of its own magnitude.
        attacks: rows that are attacked; fewer where a table has fewer.
        categorical: names of number columns that are codes of categories.
        confidence: of the intervals.
        seed: of the rows and of the guesses.

    Raises:
        InputError: tables that do not fit each other, or unknown columns.

    Source: Giomi et al. 2023 (Anonymeter).
    """
    tables = open_tables({"synthetic": synthetic, "training": training, "control": control}, categorical=categorical)
    made = tables["synthetic"]
    if secret in known:
        raise InputError("secret", expected="a column that is not in known", received=repr(secret))
    finite_number("tolerance", tolerance, least=0)
    whole_number("attacks", attacks, least=1)
    generator = np.random.default_rng(whole_number("seed", seed, least=0))
    count = min(attacks, len(tables["training"]), len(tables["control"]))
    secrets, hits = _part(made, [secret]), []
    for name in ("training", "control"):
        targets = _sample(tables[name], count, generator)
        guesses = _nearest(_part(targets, known), _part(made, known), 1)[:, 0]
        hits.append(_guessed(_part(targets, [secret]), secrets.take(guesses), tolerance))
    targets = _sample(tables["training"], count, generator)
    blind = secrets.take(generator.integers(len(made), size=count))
    hits.append(_guessed(_part(targets, [secret]), blind, tolerance))
    return _risk(np.asarray(hits), count, confidence)


def _risk(hits: np.ndarray, total: int, confidence: float) -> AttackRisk:
    """``hits`` of the attack, the control and the baseline."""
    attack, control, baseline = (Proportion.of(int(count), total, confidence=confidence) for count in hits)
    centres, halves = zip(*(((low + high) / 2, (high - low) / 2) for low, high in (attack.wilson, control.wilson)),
                          strict=True)  # fmt: skip
    room = 1 - centres[1]
    risk = (centres[0] - centres[1]) / room
    error = float(np.hypot(halves[0] / room, halves[1] * (centres[0] - 1) / room**2))
    ends = [min(max(end, 0.0), 1.0) for end in (risk - error, risk + error)]
    return AttackRisk(min(max(risk, 0.0), 1.0), Interval(*ends), attack, control, baseline)


def _sample(table: Table, count: int, generator: np.random.Generator) -> Table:
    return table.take(np.sort(generator.permutation(len(table))[:count]))


def _part(table: Table, columns: Sequence[str]) -> Table:
    """The table with these columns only."""
    unknown = sorted(set(columns) - set(table.names))
    if unknown or not columns:
        raise InputError("columns", expected=f"some of {', '.join(table.names)}", received=", ".join(unknown) or "none")
    kinds = dict(zip(table.names, table.kinds, strict=True))
    names = {kind: [name for name in table.names if kinds[name] == kind] for kind in set(table.kinds)}
    numeric = [names.get("numeric", []).index(name) for name in columns if kinds[name] != CATEGORICAL]
    coded = [names.get(CATEGORICAL, []).index(name) for name in columns if kinds[name] == CATEGORICAL]
    ordered = tuple(columns)
    return Table(
        ordered, tuple(kinds[name] for name in ordered), table.numbers[:, numeric], table.codes[:, coded],
        table.whole[numeric],
    )  # fmt: skip


def _nearest(x: Table, y: Table, k: int) -> np.ndarray:
    """The k rows of y nearest to each row of x, int64 ``[n, k]``; ties by the lowest index."""
    found = np.empty((len(x), k), np.int64)
    for start, block in distance_blocks(x, y, column_ranges([x, y])):
        found[start : start + len(block)] = np.argsort(block, axis=1, kind="stable")[:, :k]
    return found


def _random_rows(total: int, count: int, k: int, generator: np.random.Generator) -> np.ndarray:
    return np.stack([generator.permutation(total)[:k] for _ in range(count)])


def _guessed(true: Table, guess: Table, tolerance: float) -> int:
    if true.kinds[0] == CATEGORICAL:
        return int((true.codes == guess.codes).sum())
    a, b = true.numbers[:, 0], guess.numbers[:, 0]
    both = np.isnan(a) & np.isnan(b)
    return int((both | (np.abs(a - b) <= tolerance * np.abs(a))).sum())


def _predicate(
    table: Table, row: int, columns: tuple[int, ...], medians: np.ndarray, generator: np.random.Generator | None = None
) -> tuple[Any, ...]:
    """(column, relation, value) of each column; with a generator each value is another row's: a blind guess."""
    terms: list[tuple[int, int, str, float]] = []
    for column in columns:
        source = row if generator is None else int(generator.integers(len(table)))
        numeric = table.kinds[column] != CATEGORICAL
        place = sum((kind != CATEGORICAL) == numeric for kind in table.kinds[:column])
        if not numeric:
            terms.append((column, place, "is", float(table.codes[source, place])))
            continue
        value = float(table.numbers[source, place])
        relation = "missing" if np.isnan(value) else "least" if value > medians[place] else "most"
        terms.append((column, place, relation, 0.0 if relation == "missing" else value))
    return tuple(terms)


def _matches(table: Table, predicate: tuple[Any, ...]) -> int:
    """How many rows fulfil all terms."""
    kept = np.ones(len(table), bool)
    for _, place, relation, value in predicate:
        if relation == "is":
            kept &= table.codes[:, place] == value
        elif relation == "missing":
            kept &= np.isnan(table.numbers[:, place])
        else:
            numbers = table.numbers[:, place]
            kept &= numbers >= value if relation == "least" else numbers <= value
    return int(kept.sum())
