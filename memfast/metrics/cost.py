"""What an evaluation will take, before it starts."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from memfast.metrics.registry import Choice, choose

RATE_TEST_ROWS = 768


@dataclass(frozen=True)
class Cost:
    """What an evaluation is expected to take.

    Attributes:
        operations: metric (or ``neighbors``, ``features``) -> floating-point operations.
        seconds: the same in seconds at the speed measured here; a guide, within about a factor of three.
    """

    operations: dict[str, float]
    seconds: dict[str, float]

    @property
    def total_seconds(self) -> float:
        """The sum."""
        return sum(self.seconds.values())


def estimate_cost(shapes: Mapping[str, tuple[int, ...]], metrics: Choice = None, *, floor: bool = True) -> Cost:
    """What an evaluation would take on features of these shapes, before anything is computed.

    Args:
        shapes: ``generated``, ``training`` and maybe ``test`` -> (samples, features).
        metrics: as for `memfast.evaluate`.
        floor: whether floors are computed.

    >>> cost = estimate_cost({"generated": (100, 8), "training": (100, 8)}, "frechet,auth_pct")
    >>> sorted(cost.operations)
    ['auth_pct', 'frechet', 'neighbors']
    """
    chosen = [row for row in choose(metrics, has_test="test" in shapes) if "test" in shapes or not row.needs_test]
    width = int(np.prod(shapes["training"][1:]))
    m, n = shapes["generated"][0], shapes["training"][0]
    t = shapes["test"][0] if "test" in shapes else 0
    operations: dict[str, float] = {}
    for row in chosen:
        operations[row.name] = row.operations(m, n, t, width)
        if floor and t:
            operations[row.name] += row.operations(t, n, t, width)
    sizes = {"generated": m, "training": n}
    searches = {(q, b) for row in chosen for q, b, _ in row.searches}
    found = sum(2.0 * sizes[queries] * sizes[database] * width for queries, database in searches)
    if floor and t:
        sizes["generated"] = t
        found += sum(2.0 * sizes[q] * sizes[b] * width for q, b in searches if "generated" in (q, b))
    if found:
        operations["neighbors"] = found
    rate = _operations_per_second()
    return Cost(operations, {name: count / rate for name, count in operations.items()})


def _operations_per_second() -> float:
    matrix = np.ones((RATE_TEST_ROWS, RATE_TEST_ROWS))
    matrix @ matrix
    started = time.perf_counter()
    matrix @ matrix
    return 2 * RATE_TEST_ROWS**3 / max(time.perf_counter() - started, 1e-9)
