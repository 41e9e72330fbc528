"""Exact transport between weighted sets of any sizes: POT's network simplex, its duals checked.

The solver works in float64 with an absolute tolerance. Three steps make that relative to the answer. Masses are whole
numbers where the weights allow it, so that flows are exact. Where the bound is not tight, costs are capped at a
multiple of the costliest arc in use and the solver runs again in the units of the cap: capped costs are no higher than
the true ones, so their duals still bound the optimum. And the value and its bound are taken from the differences of
the points, not from the solver's cost matrix.
"""

import math
from typing import NamedTuple

import numpy as np

from memfast.foundation.errors import MemfastError, MissingPackageError
from memfast.metrics.pair_costs import UNIT_ROUNDOFF, cost_blocks, cost_rounding, costs_at, row_minima

LEAST_ITERATIONS = 1_000_000
ITERATIONS_PER_ROW = 2_000
OPTIMAL = 1
CAP_COSTS = 4
PROVEN = 1e-12
MAXIMUM_CAPS = 6
LARGEST_MASS = 1 << 40
WEIGHT_ROUNDING = 8 * UNIT_ROUNDOFF


class Flow(NamedTuple):
    """What an optimal flow costs per unit of mass.

    Attributes:
        total: ``sum_ij pi_ij ||x_i - y_j||^p`` of the flow that was found.
        lower_bound: at most the cost of every flow, rounding counted.
        upper_bound: at least the least cost, rounding counted.
    """

    total: float
    lower_bound: float
    upper_bound: float


def optimal_flow(
    x: np.ndarray,
    y: np.ndarray,
    p: float,
    x_weights: np.ndarray | None,
    y_weights: np.ndarray | None,
    maximum_iterations: int | None = None,
) -> Flow:
    """The least total cost ``sum_ij pi_ij ||x_i - y_j||^p`` and what its dual potentials prove.

    Args:
        x: float64 ``[n, d]``.
        y: float64 ``[m, d]``.
        p: exponent, at least 1.
        x_weights: ``[n]``, summing to 1, or None for equal weights. Ratios that are whole numbers to rounding are taken
            as whole.
        y_weights: ``[m]``, likewise.
        maximum_iterations: of the solver; None takes a million, and 2,000 per row where that is more.

    Raises:
        MissingPackageError: POT is not installed.
        MemfastError: the solver stopped before the optimum; POT itself only warns.
    """
    masses = Masses.of(len(x), len(y), x_weights, y_weights)
    rows, columns = (np.nonzero(mass)[0] for mass in (masses.a, masses.b))
    masses = masses._replace(a=masses.a[rows], b=masses.b[columns])
    x, y = x[rows], y[columns]
    if maximum_iterations is None:
        maximum_iterations = max(LEAST_ITERATIONS, ITERATIONS_PER_ROW * (len(x) + len(y)))
    costs = np.empty((len(x), len(y)))
    for start, block in cost_blocks(x, y, p):
        costs[start : start + len(block)] = block
    best, longest = _solve(costs, x, y, p, masses, maximum_iterations)
    for _ in range(MAXIMUM_CAPS):
        proven = best.upper_bound - best.lower_bound <= PROVEN * best.total
        if proven or best.total == 0 or float(costs.max()) <= CAP_COSTS * longest:
            break
        np.minimum(costs, CAP_COSTS * longest, out=costs)
        found, longest = _solve(costs, x, y, p, masses, maximum_iterations)
        best = Flow(
            min(best.total, found.total),
            max(best.lower_bound, found.lower_bound),
            min(best.upper_bound, found.upper_bound),
        )
    return best


class Masses(NamedTuple):
    """The masses of both sets, of one sum.

    Attributes:
        a: float64 ``[n]``; whole numbers where ``rounding`` is 0.
        b: float64 ``[m]``.
        rounding: how far the masses may be from the weights, relative to the sum.
    """

    a: np.ndarray
    b: np.ndarray
    rounding: float

    @classmethod
    def of(cls, n: int, m: int, a: np.ndarray | None, b: np.ndarray | None) -> "Masses":
        """Whole masses of one sum if both sets have whole ratios and the sum stays small, else the weights."""
        whole = [_whole_ratios(count, weights) for count, weights in ((n, a), (m, b))]
        if whole[0] is not None and whole[1] is not None:
            sums = [int(masses.sum()) for masses in whole if masses is not None]
            common = math.lcm(*sums)
            if common <= LARGEST_MASS:
                first, second = whole[0] * (common // sums[0]), whole[1] * (common // sums[1])
                return cls(first.astype(np.float64), second.astype(np.float64), 0.0)
        a, b = np.full(n, 1 / n) if a is None else a, np.full(m, 1 / m) if b is None else b
        return cls(a, b, WEIGHT_ROUNDING)


def _whole_ratios(count: int, weights: np.ndarray | None) -> np.ndarray | None:
    """Weights as whole numbers int64, or None where their ratios to the least are not whole to rounding."""
    if weights is None:
        return np.ones(count, dtype=np.int64)
    ratios = weights / weights[weights > 0].min()
    whole = np.rint(ratios)
    if whole.sum() > LARGEST_MASS or (np.abs(ratios - whole) > WEIGHT_ROUNDING * whole).any():
        return None
    return whole.astype(np.int64)


def _solve(
    costs: np.ndarray, x: np.ndarray, y: np.ndarray, p: float, masses: Masses, maximum_iterations: int
) -> tuple[Flow, float]:
    """One run of the solver in units of its largest cost, judged by the exact costs; and the costliest arc in use."""
    try:
        import ot
    except ImportError:
        raise MissingPackageError("POT", purpose="transport between sets of different sizes", extra="audit") from None
    largest = float(costs.max())
    unit = 2.0 ** math.floor(math.log2(largest)) if largest > 0 else 1.0
    plan, log = ot.emd(masses.a, masses.b, costs / unit, numItermax=maximum_iterations, log=True, check_marginals=False)
    if log["result_code"] != OPTIMAL:
        raise MemfastError(
            f"the network simplex stopped before the optimum after at most {maximum_iterations} iterations "
            f"(code {log['result_code']}: {log['warning']}). Raise maximum_iterations or use fewer points."
        )
    rows, columns = np.nonzero(plan)
    moved = plan[rows, columns]
    exact = costs_at(x, y, p, rows, columns)
    rounding = cost_rounding(x.shape[1], p)
    sums = math.fsum(masses.a), math.fsum(masses.b)
    total = math.fsum(moved * exact) / sums[0]
    missing = np.abs(plan.sum(axis=1) - masses.a).sum() + np.abs(plan.sum(axis=0) - masses.b).sum()
    unmoved = float(missing) / sums[0] + masses.rounding
    upper = total * (1 + 4 * UNIT_ROUNDOFF) + math.fsum(moved * rounding.of(exact)) / sums[0]
    if unmoved > 0:
        upper += unmoved * _farthest(x, y) ** p
    v = np.asarray(log["v"]) * unit
    u = row_minima(x, y, p, v)
    gains = masses.a * u / sums[0], masses.b * v / sums[1]
    bound = math.fsum(np.concatenate(gains))
    error = (4 * UNIT_ROUNDOFF + masses.rounding) * sum(float(np.abs(gain).sum()) for gain in gains)
    return Flow(total, max(0.0, min(total, bound - error)), upper), float(exact.max())


def _farthest(x: np.ndarray, y: np.ndarray) -> float:
    """A bound of all distances between the sets."""
    centre = y.mean(axis=0)
    return 1.01 * sum(float(np.sqrt(np.square(points - centre).sum(axis=1).max())) for points in (x, y))
