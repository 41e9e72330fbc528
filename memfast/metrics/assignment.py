"""An optimal assignment between two sets of one size, with the dual potentials that prove it optimal.

The assignment comes from a Jonker-Volgenant solver on float32 costs, the fast and small form. Float32 rounds, so its
answer is then judged and, where needed, improved in float64: potentials v are relaxed along alternating paths (the
Bellman-Ford rule v_j <= v_s(i) + c_ij - c_i,s(i)); a cycle in that relaxation is a cheaper assignment and is applied;
where no relaxation is left the potentials are feasible, and weak duality bounds the optimum from below.

Two facts keep tiny costs beside large ones. A pair that costs more than a whole known assignment is in no optimal one,
so costs are capped at a multiple of the best total and the solver runs again in the units of that cap. And potentials
that start from zero never leave [-total, 0], so their rounding is relative to the total. Where the first search does
not end within its bounds, SciPy's shortest augmenting paths solve the capped costs in float64 and are judged likewise.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from memfast.foundation.errors import MissingPackageError
from memfast.metrics.pair_costs import (
    BLOCK_ENTRIES,
    EXACT_COSTS,
    UNIT_ROUNDOFF,
    CostRounding,
    cost_blocks,
    cost_rounding,
    costs_at,
    pair_costs,
)

EDGES_PER_ROW = 16
SAMPLED_ROWS = 64
NEGLIGIBLE_SHIFT = 1e-6
PASSES_PER_CYCLE_CHECK = 16
MAXIMUM_PASSES = 20_000
MAXIMUM_VISITS = 1 << 30
MAXIMUM_ROUNDS = 200
RELAXATION_TOLERANCE = 1e-14
PROVEN = 1e-12
CAP_TOTALS = 8
WIDE_COSTS = 64
MAXIMUM_CAPS = 6
FLOAT32_SLACK = 2.0**-21
FLOAT32_TINY = 2.0**-125
FLOAT32_EXPONENT = 120


class Assignment(NamedTuple):
    """An assignment and what is proven of it.

    Attributes:
        columns: int64 ``[n]``; row i goes to column ``columns[i]``.
        total: the sum of its costs.
        lower_bound: at most the total of every assignment.
        upper_bound: at least the exact total of this one; it differs from ``total`` by rounding.
    """

    columns: np.ndarray
    total: float
    lower_bound: float
    upper_bound: float


def optimal_assignment(x: np.ndarray, y: np.ndarray, p: float) -> Assignment:
    """The assignment of least total cost ``sum_i ||x_i - y_s(i)||^p`` and its certificate.

    Args:
        x: float64 ``[n, d]``.
        y: float64 ``[n, d]``.
        p: exponent, at least 1.

    Returns:
        `Assignment`. ``upper_bound - lower_bound`` is a few roundings of ``total`` in all but hopeless cases, such as
        costs that span more powers of ten than float64 has digits.

    Memory is one float32 matrix ``[n, n]`` (1.6 GB at n = 20,000) and what the solver adds per row; the second search,
    if it is needed, takes a float64 matrix.
    """
    moved, errors = _without_shift(x, y) if p == 2 else (x, None)
    found = _optimum(moved, y, p, errors)
    result = _of_points(found, x, y, p)
    if moved is not x and not _proven(result):
        other = _of_points(_optimum(x, y, p, None), x, y, p)
        lower = max(result.lower_bound, other.lower_bound)
        result = min(result, other, key=lambda each: each.total)._replace(lower_bound=lower)
    return result


def _of_points(found: Assignment, x: np.ndarray, y: np.ndarray, p: float) -> Assignment:
    """What an assignment of moved points is for the points themselves: a shift adds the same to every total."""
    own = pair_costs(x, y[found.columns], p)
    total, error = math.fsum(own), math.fsum(cost_rounding(x.shape[1], p).of(own))
    suboptimality = found.upper_bound - found.lower_bound
    return Assignment(found.columns, total, max(0.0, total - error - suboptimality), total + error)


def _optimum(x: np.ndarray, y: np.ndarray, p: float, errors: np.ndarray | None) -> Assignment:
    """Both searches, the second where the first proves nothing; ``errors`` ``[n]`` is how far each row of x is off."""
    try:
        from lap import lapjvs
    except ImportError:
        raise MissingPackageError("lapx", purpose="the exact transport distance", extra="audit") from None
    costs = np.empty((len(x), len(y)), dtype=np.float32)
    scale = _power_of_two_scale(x, y, p)
    for start, block in cost_blocks(x, y, p):
        np.multiply(block, scale, out=costs[start : start + len(block)], casting="same_kind")
    rounding = cost_rounding(x.shape[1], p, scale)
    if errors is not None and errors.any():
        rounding = rounding._replace(root=2 * math.sqrt(scale) * errors)

    def exact(rows: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        return costs_at(x, y, p, rows, chosen) * scale

    columns = _propose(costs, lambda matrix: lapjvs(matrix, return_cost=False)[1], exact)
    result = _certify(torch.from_numpy(costs), columns, exact, rounding)
    if not _proven(result):
        again = _augmenting_paths(x, y, p, result.total / scale)
        second = _certify(torch.from_numpy(costs), again, exact, rounding, from_zero=True)
        lower = max(result.lower_bound, second.lower_bound)
        result = min(result, second, key=lambda found: found.total)._replace(lower_bound=lower)
    return Assignment(result.columns, *(figure / scale for figure in result[1:]))


def _propose(costs: np.ndarray, solve: Callable, exact: Callable) -> np.ndarray:
    """The solver's assignment; ``costs`` are capped (in place) while the most of them exceed every assignment's need.

    Scaling is by a power of two and float32 keeps its digits at every scale: only the solver, whose potentials are as
    large as the largest cost, gains from the cap.
    """
    rows = np.arange(len(costs))
    columns = np.asarray(solve(costs), dtype=np.int64)
    total = math.fsum(exact(rows, columns))
    for _ in range(MAXIMUM_CAPS):
        if total == 0 or float(costs.max()) <= WIDE_COSTS * total:
            break
        np.minimum(costs, np.float32(max(CAP_TOTALS * total, FLOAT32_TINY)), out=costs)
        proposed = np.asarray(solve(costs), dtype=np.int64)
        proposed_total = math.fsum(exact(rows, proposed))
        if proposed_total >= total:
            break
        columns, total = proposed, proposed_total
    return columns


def _augmenting_paths(x: np.ndarray, y: np.ndarray, p: float, total: float) -> np.ndarray:
    """SciPy's assignment on float64 costs capped at a multiple of ``total``, all that count from the differences."""
    cap = CAP_TOTALS * total
    costs = np.empty((len(x), len(y)))
    for start, block in cost_blocks(x, y, p):
        rows, columns = np.nonzero(block <= cap)
        block[block > cap] = cap
        block[rows, columns] = costs_at(x, y, p, rows + start, columns)
        costs[start : start + len(block)] = block
    return linear_sum_assignment(costs)[1]


def _proven(found: Assignment) -> bool:
    return found.upper_bound - found.lower_bound <= PROVEN * found.total


def _without_shift(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """``x`` moved to the mean of ``y``, and by how much rounding moved each row beside that: float64 ``[n]`` or None.

    Of squared costs the shift is the same for every assignment. ``x`` is left as it is where the shift is small beside
    the spread, because a rounding of far points would then weigh more than the distances of near copies; a larger
    shift is a multiple of what the largest numbers resolve.
    """
    step = x.mean(axis=0) - y.mean(axis=0)
    spread = np.square(x - x.mean(axis=0)).sum(axis=1).mean()
    if step @ step <= NEGLIGIBLE_SHIFT * spread:
        return x, None
    grain = np.spacing(np.maximum(np.abs(x).max(axis=0), np.abs(y).max(axis=0)))
    step = np.rint(step / grain) * grain
    moved = x - step
    taken = moved - x
    errors = (x - (moved - taken)) - (step + taken)
    return moved, np.sqrt(np.square(errors).sum(axis=1)) * (1 + 1e-9)


def _power_of_two_scale(x: np.ndarray, y: np.ndarray, p: float) -> float:
    """A power of two that brings typical costs near 1, and the largest to what float32 can hold."""
    mean = y.mean(axis=0)
    squares = [np.square(points - mean).sum(axis=1) for points in (x, y)]
    spread, farthest = np.sqrt(squares[0].mean()), sum(np.sqrt(values.max()) for values in squares)
    if spread == 0:
        return 1.0
    exponent = min(np.round(-p * np.log2(spread)), np.floor(FLOAT32_EXPONENT - p * np.log2(farthest)))
    return float(2.0 ** np.clip(exponent, -1000, 1000))


def _certify(
    costs: torch.Tensor,
    columns: np.ndarray,
    exact: Callable[[np.ndarray, np.ndarray], np.ndarray],
    rounding: CostRounding = EXACT_COSTS,
    *,
    from_zero: bool = False,
) -> Assignment:
    """The assignment improved until feasible potentials prove it, or until a bound of the search is reached."""
    count = len(columns)
    own = exact(np.arange(count), columns)
    if not own.any():
        return Assignment(columns, 0.0, 0.0, math.fsum(rounding.of(own)))
    potentials, margin = _first_potentials(costs, columns, own)
    if from_zero:
        potentials = np.zeros(count)
    edges = _Edges(count)
    edges.add(*_near_entries(costs, own - potentials[columns] + margin, potentials), exact)
    passes = max(count, min(MAXIMUM_PASSES, MAXIMUM_VISITS // (EDGES_PER_ROW * count)))
    for left in reversed(range(MAXIMUM_ROUNDS)):
        columns, own, passes = _relax(edges, columns, own, potentials, exact, passes)
        u = own - potentials[columns]
        last = left == 0 or passes <= 0
        rows, chosen, lowest = _violations(costs, u, potentials, own, exact, rounding, to_the_end=last)
        if last or not len(rows):
            break
        edges.add(rows, chosen, exact)
    total = math.fsum(own)
    return Assignment(
        columns,
        total,
        math.fsum(np.concatenate([u, potentials, lowest])),
        total + math.fsum(rounding.of(own)),
    )


def _first_potentials(costs: torch.Tensor, columns: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, float]:
    """Of three guesses the one that the fewest entries of some rows contradict: nothing, half the costs, the means.

    Beside it the reduced cost below which a row has about ``EDGES_PER_ROW`` entries.
    """
    half = np.zeros(len(own))
    half[columns] = own / 2
    rows = np.linspace(0, len(own) - 1, min(SAMPLED_ROWS, len(own))).astype(np.int64)
    sample = costs[torch.from_numpy(rows)].double().numpy()
    guesses = [np.zeros(len(own)), half, sample.mean(axis=0) - sample.mean()]
    reduced = [sample - guess - (own[rows] - guess[columns[rows]])[:, None] for guess in guesses]
    best = int(np.argmin([(values < 0).sum() for values in reduced]))
    place = min(EDGES_PER_ROW, len(own)) - 1
    return guesses[best].copy(), float(np.median(np.partition(reduced[best], place, axis=1)[:, place]))


class _Edges:
    """A sparse set of (row, column, float64 cost), sorted by column."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.rows = self.columns = np.empty(0, dtype=np.int64)
        self.costs = np.empty(0)

    def add(self, rows: np.ndarray, columns: np.ndarray, exact: Callable) -> None:
        """Add edges; those already here are left as they are."""
        known = self.columns * self.count + self.rows
        keys = np.unique(columns * self.count + rows)
        keys = keys[~np.isin(keys, known)]
        new_columns, new_rows = np.divmod(keys, self.count)
        order = np.argsort(np.concatenate([known, keys]), kind="stable")
        self.costs = np.concatenate([self.costs, exact(new_rows, new_columns)])[order]
        self.rows = np.concatenate([self.rows, new_rows])[order]
        self.columns = np.concatenate([self.columns, new_columns])[order]


def _relax(
    edges: _Edges, columns: np.ndarray, own: np.ndarray, potentials: np.ndarray, exact: Callable, passes: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Relax ``potentials`` (in place) over ``edges`` until nothing moves; apply each cheaper cycle that shows up.

    Takes at most ``passes`` passes and gives those left. A cycle is applied only if its exact costs are lower.
    """
    heads, starts, sizes = np.unique(edges.columns, return_index=True, return_counts=True)
    group = np.repeat(np.arange(len(heads)), sizes)
    parents = np.full(len(columns), -1, dtype=np.int64)
    tolerance = RELAXATION_TOLERANCE * max(1e-300, float(np.abs(own).max()))
    while passes > 0:
        offers = potentials[columns[edges.rows]] + (edges.costs - own[edges.rows])
        best = np.minimum.reduceat(offers, starts)
        better = best < potentials[heads] - tolerance
        if not better.any():
            return columns, own, passes
        winners = np.nonzero((offers == best[group]) & better[group])[0]
        parents[edges.columns[winners]] = edges.rows[winners]
        potentials[heads[better]] = best[better]
        passes -= 1
        if passes % PASSES_PER_CYCLE_CHECK == 0:
            cycle = _find_cycle(parents, columns)
            if cycle is not None:
                movers = parents[cycle]
                cheaper = exact(movers, cycle)
                parents[:] = -1
                if math.fsum(cheaper) < math.fsum(own[movers]):
                    columns, own = columns.copy(), own.copy()
                    columns[movers], own[movers] = cycle, cheaper
                else:
                    # Earlier cycles drove the potentials so low that their rounding passes for a gain.
                    potentials[:] = 0
                    tolerance *= 4
    return columns, own, 0


def _find_cycle(parents: np.ndarray, columns: np.ndarray) -> np.ndarray | None:
    """Columns of one cycle of the graph column -> the column that its parent row holds now, or None."""
    following = np.where(parents >= 0, columns[parents], -1)
    reached = following.copy()
    for _ in range(int(np.ceil(np.log2(len(columns) + 1))) + 1):
        reached = np.where(reached >= 0, reached[reached], -1)
    on_cycle = np.nonzero(reached >= 0)[0]
    if not len(on_cycle):
        return None
    start = int(reached[on_cycle[0]])
    cycle = [start]
    while int(following[cycle[-1]]) != start:
        cycle.append(int(following[cycle[-1]]))
    return np.asarray(cycle)


def _violations(
    costs: torch.Tensor,
    row_potentials: np.ndarray,
    potentials: np.ndarray,
    own: np.ndarray,
    exact: Callable,
    rounding: CostRounding,
    *,
    to_the_end: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entries whose exact reduced cost is negative, and a lower bound of each row's exact reduced costs (at most 0).

    Float32 only screens: whatever lies within its error of 0 is computed again, block by block. A block with very
    many candidates gives only its smallest ones, unless none of those is negative: then all are looked at, as they are
    with ``to_the_end``. Without violations, or with ``to_the_end``, the bound holds.
    """
    size = np.abs(row_potentials) + np.abs(potentials).max() + own
    slack = FLOAT32_TINY + (FLOAT32_SLACK + rounding.screen) * size
    limits = torch.from_numpy((row_potentials + slack).astype(np.float32))
    tolerance = RELAXATION_TOLERANCE * len(own) * float(own.max())
    lowest = np.zeros(len(own))
    found_rows, found_columns = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start, block in _reduced(costs, potentials):
        inside = block <= limits[start : start + len(block), None]
        candidates = [inside]
        if not to_the_end and int(inside.sum()) > 4 * EDGES_PER_ROW * len(block):
            candidates.insert(0, inside & _smallest(block - limits[start : start + len(block), None]))
        for mask in candidates:
            rows, columns = (found.numpy() for found in mask.nonzero(as_tuple=True))
            rows += start
            costs_here = exact(rows, columns)
            reduced = costs_here - row_potentials[rows] - potentials[columns]
            sizes = costs_here + np.abs(row_potentials[rows]) + np.abs(potentials[columns])
            np.minimum.at(lowest, rows, reduced - rounding.of(costs_here, rows) - 2 * UNIT_ROUNDOFF * sizes)
            violated = reduced < -tolerance
            if violated.any():
                break
        found_rows.append(rows[violated])
        found_columns.append(columns[violated])
    return np.concatenate(found_rows), np.concatenate(found_columns), lowest


def _near_entries(costs: torch.Tensor, limits: np.ndarray, potentials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entries of reduced cost below their row's limit; of very many in a block, its smallest."""
    found = []
    for start, block in _reduced(costs, potentials):
        block -= torch.from_numpy(limits[start : start + len(block)].astype(np.float32))[:, None]
        inside = block <= 0
        if int(inside.sum()) > 4 * EDGES_PER_ROW * len(block):
            inside &= _smallest(block)
        rows, columns = inside.nonzero(as_tuple=True)
        found.append((rows.numpy() + start, columns.numpy()))
    return np.concatenate([rows for rows, _ in found]), np.concatenate([columns for _, columns in found])


def _smallest(block: torch.Tensor) -> torch.Tensor:
    """Where the few smallest entries of each row and the smallest of each column are; the others can wait."""
    of_rows = block.topk(min(EDGES_PER_ROW, block.shape[1]), dim=1, largest=False).indices
    mask = torch.zeros_like(block, dtype=torch.bool).scatter_(1, of_rows, True)
    return mask.scatter_(0, block.argmin(dim=0)[None], True)


def _reduced(costs: torch.Tensor, potentials: np.ndarray) -> Iterator[tuple[int, torch.Tensor]]:
    offsets = torch.from_numpy(potentials.astype(np.float32))
    step = max(1, BLOCK_ENTRIES // costs.shape[1])
    for start in range(0, len(costs), step):
        yield start, costs[start : start + step] - offsets
