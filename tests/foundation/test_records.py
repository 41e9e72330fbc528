"""Plain values read back into dataclasses: what comes back is what went, and whatever does not fit is named."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from memfast.foundation.errors import InputError
from memfast.foundation.proportions import Interval, Proportion
from memfast.foundation.records import read_record
from memfast.foundation.values import plain


@dataclass(frozen=True)
class Row:
    share: Proportion
    pairs: tuple[tuple[float, float], ...]
    names: Mapping[str, tuple[str, ...]]
    known: bool
    either: float | str | None = None


ROW = Row(Proportion.of(3, 10), ((0.0, 1.5), (2.0, 3.0)), {"a": ("x", "y")}, True, "given")


def test_what_json_holds_comes_back():
    assert read_record(Row, json.loads(json.dumps(plain(ROW))), "row") == ROW
    assert isinstance(read_record(Row, plain(ROW), "row").share.wilson, Interval)


def changed(**more):
    return {**plain(ROW), **more}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], r"row: expected the fields of Row, received \[\]"),
        ({}, "row.share: expected a value, received no such field"),
        (changed(other=1), "row: expected fields among share, pairs, names, known, either, received 'other'"),
        (changed(known=1), "row.known: expected true or false, received 1"),
        (changed(either=[1]), r"row.either: expected text, received \[1\]"),
        (changed(either=True), "row.either: expected text, received True"),
        (changed(names=[]), "row.names: expected names and values"),
        (changed(names={"a": "xy"}), "row.names.a: expected a list, received 'xy'"),
        (changed(pairs=[[1.0]]), r"row.pairs\[0\]: expected 2 values"),
        (changed(pairs=[[1.0, None]]), r"row.pairs\[0\]\[1\]: expected a number, received None"),
        (changed(pairs=[[1.0, float("nan")]]), r"row.pairs\[0\]\[1\]: expected a finite number"),
        (changed(pairs=[[1, 10**400]]), r"row.pairs\[0\]\[1\]: expected a finite number"),
        (changed(share={**plain(ROW.share), "count": 2**63}), "row.share.count: expected a whole number of 64 bits"),
        (changed(share={**plain(ROW.share), "wilson": [0.1]}), "row.share.wilson: expected 2 values"),
    ],
)
def test_what_does_not_fit_is_named(value, words):
    with pytest.raises(InputError, match=words):
        read_record(Row, value, "row")


def test_a_deep_value_is_shown_in_short():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InputError, match="known: expected true or false") as caught:
        read_record(Row, changed(known=deep), "row")
    assert len(str(caught.value)) < 300
