"""Exact transport between weighted sets of any sizes: POT's network simplex, its duals checked.

The solver works in float64 with an absolute tolerance. Three steps make that relative to the answer. Masses are whole
numbers, so that flows are exact: float64 weights are whole multiples of a power of two, and what the first 50 bits of
them leave over is moved by further runs, 50 bits each. Where the bound is not tight, costs are capped at a multiple of
the costliest arc in use and the solver runs again in the units of the cap: capped costs are no higher than the true
ones, so their duals still bound the optimum. And the value and its bound are taken from the differences of the points,
not from the solver's cost matrix.
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
MASS_BITS = 50
MAXIMUM_PARTS = 6
NEGLIGIBLE_REST = 1e-14
# In units of the solver, whose largest cost is below 2.
COST_OF_FILLING = 2.0
WHOLE_RATIO = 8 * UNIT_ROUNDOFF


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
        x_weights: ``[n]``, at least 0, or None for equal weights. Where the ratios of the weights of both sets are
            whole numbers to rounding they are taken as whole; all others are taken as the float64 numbers they are.
        y_weights: ``[m]``, likewise.
        maximum_iterations: of the solver; None takes a million, and 2,000 per row where that is more.

    Raises:
        MissingPackageError: POT is not installed.
        MemfastError: the solver stopped before the optimum; POT itself only warns.
    """
    a, b = _whole_masses(_weights(len(x), x_weights), _weights(len(y), y_weights))
    rows, columns = ([number for number, mass in enumerate(masses) if mass] for masses in (a, b))
    masses = [a[number] for number in rows], [b[number] for number in columns]
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


def _weights(count: int, weights: np.ndarray | None) -> np.ndarray:
    return np.ones(count) if weights is None else weights


def _whole_masses(x_weights: np.ndarray, y_weights: np.ndarray) -> tuple[list[int], list[int]]:
    """Both sets' weights as whole numbers of one sum."""
    a, b = _whole_ratios(x_weights), _whole_ratios(y_weights)
    if a is None or b is None:
        a, b = _numerators(x_weights), _numerators(y_weights)
    first, second = sum(a), sum(b)
    common = math.gcd(first, second)
    return [mass * (second // common) for mass in a], [mass * (first // common) for mass in b]


def _whole_ratios(weights: np.ndarray) -> list[int] | None:
    """Weights as multiples of the least one, or None where those are not whole to rounding."""
    with np.errstate(over="ignore"):
        ratios = weights / weights[weights > 0].min()
    whole = np.rint(ratios)
    if not whole.sum() <= 1 << MASS_BITS or (np.abs(ratios - whole) > WHOLE_RATIO * whole).any():
        return None
    return [int(value) for value in whole]


def _numerators(weights: np.ndarray) -> list[int]:
    """The same ratios without any rounding: float64 numbers have powers of two as denominators."""
    fractions = [value.as_integer_ratio() for value in weights.tolist()]
    common = max(denominator for _, denominator in fractions)
    return [numerator * (common // denominator) for numerator, denominator in fractions]


def _leading_part(a: list[int], b: list[int]) -> tuple[list[int], list[int], int]:
    """The leading bits of both sets' masses, of one sum, and by how many bits they are shifted down."""
    shift = max(0, sum(a).bit_length() - MASS_BITS)
    first, second = [mass >> shift for mass in a], [mass >> shift for mass in b]
    excess = sum(first) - sum(second)
    larger = first if excess > 0 else second
    larger[larger.index(max(larger))] -= abs(excess)
    return first, second, shift


def _without(masses: list[int], moved: np.ndarray, shift: int) -> list[int]:
    return [mass - (int(part) << shift) for mass, part in zip(masses, moved, strict=True)]


def _solve(
    costs: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    p: float,
    masses: tuple[list[int], list[int]],
    maximum_iterations: int,
) -> tuple[Flow, float]:
    """A flow of all masses by the solver in units of its largest cost, judged by the exact costs; its costliest arc."""
    (a, b), whole = masses, sum(masses[0])
    largest = float(costs.max())
    unit = 2.0 ** math.floor(math.log2(largest)) if largest > 0 else 1.0
    rounding, farthest = cost_rounding(x.shape[1], p), _farthest(x, y) ** p
    terms: list[float] = []
    errors: list[float] = []
    longest, v = 0.0, None
    for _ in range(MAXIMUM_PARTS):
        first, second, shift = _leading_part(a, b)
        plan, duals = _plan(first, second, costs / unit, maximum_iterations)
        v = duals * unit if v is None else v
        rows, columns = np.nonzero(plan)
        exact = costs_at(x, y, p, rows, columns)
        longest = max(longest, float(exact.max(initial=0.0)))
        shares = plan[rows, columns] * ((1 << shift) / whole)
        terms.extend((shares * exact).tolist())
        errors.extend((shares * rounding.of(exact)).tolist())
        a, b = _without(a, plan.sum(axis=1), shift), _without(b, plan.sum(axis=0), shift)
        rest = max(sum(map(abs, a)), sum(map(abs, b))) / whole
        if rest * farthest <= NEGLIGIBLE_REST * math.fsum(terms) or min(*a, *b) < 0:
            break
    total = math.fsum(terms)
    upper = total * (1 + 8 * UNIT_ROUNDOFF) + math.fsum(errors) + 2 * rest * farthest
    assert v is not None
    u = row_minima(x, y, p, v)
    v = np.maximum(v, row_minima(y, x, p, u))
    gains = [_shares(part) * potentials for part, potentials in zip(masses, (u, v), strict=True)]
    bound = math.fsum(np.concatenate(gains))
    error = 4 * UNIT_ROUNDOFF * sum(float(np.abs(gain).sum()) for gain in gains)
    return Flow(total, max(0.0, min(total, bound - error)), upper), longest


def _plan(a: list[int], b: list[int], costs: np.ndarray, maximum_iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """The solver's flows, whole numbers in float64 ``[n, m]``, and its potentials of the columns.

    POT multiplies the columns' masses by a ratio of sums. That is exact where the sum is a power of two, so one more
    row and column fill it up. Moving mass to them costs more than any other way, so they get it from each other.
    """
    try:
        import ot
    except ImportError:
        raise MissingPackageError("POT", purpose="transport between sets of different sizes", extra="audit") from None
    filling = (1 << sum(a).bit_length()) - sum(a)
    first, second = np.asarray([*a, filling], dtype=np.float64), np.asarray([*b, filling], dtype=np.float64)
    filled = np.full((len(first), len(second)), COST_OF_FILLING)
    filled[:-1, :-1], filled[-1, -1] = costs, 0.0
    plan, log = ot.emd(first, second, filled, numItermax=maximum_iterations, log=True, check_marginals=False)
    if log["result_code"] != OPTIMAL:
        raise MemfastError(
            f"the network simplex stopped before the optimum after at most {maximum_iterations} iterations "
            f"(code {log['result_code']}: {log['warning']}). Raise maximum_iterations or use fewer points."
        )
    return plan[:-1, :-1], np.asarray(log["v"])[:-1]


def _shares(masses: list[int]) -> np.ndarray:
    whole = sum(masses)
    return np.asarray([mass / whole for mass in masses])


def _farthest(x: np.ndarray, y: np.ndarray) -> float:
    """A bound of all distances between the sets."""
    centre = y.mean(axis=0)
    return 1.01 * sum(float(np.sqrt(np.square(points - centre).sum(axis=1).max())) for points in (x, y))
