"""What a benchmark is: one row. To add some, write `benchmarks/<package>/rows.py` with a tuple ROWS.

A row makes its data, checks that both sides agree, and gives the two functions to be timed.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Timed = Callable[[], object]


class Row(NamedTuple):
    """One comparison.

    Attributes:
        name: unique; what is measured.
        against: the peer.
        goal: the peer's time over ours that is to be reached.
        make: gives (ours, peer).
        calls: how many calls one timing of either side holds; the times shown are per call.
        microseconds: the most that one of our calls may take, where that is the goal.
    """

    name: str
    against: str
    goal: float
    make: Callable[[], tuple[Timed, Timed]]
    calls: int = 1
    microseconds: float | None = None


def packages_with_rows() -> list[str]:
    """The packages under benchmarks that have a rows.py."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/rows.py"))


def rows_of(package: str) -> tuple:
    """The rows of one package; any tuples with a name, against, goal and make."""
    return tuple(importlib.import_module(f"benchmarks.{package}.rows").ROWS)
