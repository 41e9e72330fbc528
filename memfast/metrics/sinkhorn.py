"""Entropic transport, solved until a feasible plan and dual potentials prove the value.

Everything happens in the log domain in float64, and the regularization is annealed: it falls by halves from the typical
cost, each problem starting where the path of the ones before it points. Problems that fit into memory take Newton steps
on the concave dual, because Sinkhorn's own iteration needs about cost / regularization of them. Larger ones are
streamed, a block of rows at a time, and take Sinkhorn's.

A run ends when a plan with the right marginals costs no more than ``1 + tolerance`` times the dual value. That plan's
cost is the result, so that it is never below the least cost, whatever the regularization.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import MemfastError
from memfast.metrics.pair_costs import SCREEN_ERROR, UNIT_ROUNDOFF

MAXIMUM_ITERATIONS = 2000
TOLERANCE = 1e-6
RELATIVE_REGULARIZATION = 0.05
ENTRIES_AT_ONCE = 1 << 22
NEWTON_ROWS = 1024
ANNEALING_RATIO = 0.5
STAGE_ERROR = 0.02
RELAXATION = 1.5
STAGE_ITERATIONS = 60
LEAST_DAMPING = 1e-10
LARGEST_DAMPING = 10.0
SUFFICIENT_GAIN = 0.01
GAIN_ROUNDINGS = 16
STALLED_STEPS = 10
STALLED_SHARE = 0.9
ITERATIONS_PER_CHECK = 10
NEAR_COPY_ITERATIONS = 400


class SinkhornCost(NamedTuple):
    """Entropic cost, its regularization, the iterations of the longest of its problems."""

    cost: float
    regularization: float
    iterations: int


def sinkhorn_cost(
    x: np.ndarray,
    y: np.ndarray,
    p: float,
    x_weights: np.ndarray | None = None,
    y_weights: np.ndarray | None = None,
    *,
    regularization: float | None = None,
    debiased: bool = True,
    maximum_iterations: int = MAXIMUM_ITERATIONS,
    tolerance: float = TOLERANCE,
    device: str | torch.device = "cpu",
) -> SinkhornCost:
    """``min_pi <pi, C> + regularization * KL(pi | a b^T)`` with ``C = ||x_i - y_j||^p``, debiased where asked.

    Debiased means minus half the cost of each set against itself (Feydy et al. 2019), so that equal sets give 0.

    Args:
        x: float64 ``[n, d]``.
        y: float64 ``[m, d]``.
        p: exponent of the cost.
        x_weights: ``[n]``, summing to 1, or None.
        y_weights: ``[m]``, summing to 1, or None.
        regularization: in units of the cost; None takes 0.05 of the mean cost over all pairs of x and y.
        debiased: subtract the two self terms.
        maximum_iterations: over all stages; a problem that needs more is an error, not a warning.
        tolerance: the largest gap between the cost of a feasible plan and the dual value, relative to that cost, that
            counts as converged.
        device: where to compute.

    Raises:
        MemfastError: the gap was wider than ``tolerance`` after ``maximum_iterations``, or float64 cannot narrow it.
    """
    whole_number("maximum_iterations", maximum_iterations, least=1)
    finite_number("tolerance", tolerance, above=0)
    if regularization is not None:
        finite_number("regularization", regularization, above=0)
    sets = []
    for points, given in ((x, x_weights), (y, y_weights)):
        mass = np.full(len(points), 1 / len(points)) if given is None else given
        kept = mass > 0
        rows = torch.from_numpy(points[kept]).to(device)
        sets.append((rows, torch.from_numpy(mass[kept] / mass[kept].sum()).to(device)))
    problem = _Problem(sets[0], sets[1], p)
    scale = problem.mean_cost()
    if regularization is None:
        regularization = RELATIVE_REGULARIZATION * scale
    if scale == 0:
        return SinkhornCost(0.0, regularization, 0)
    cost, iterations = _solve(problem, scale, regularization, maximum_iterations, tolerance)
    if debiased:
        for side in sets:
            own, steps = _solve(_Problem(side, side, p), scale, regularization, maximum_iterations, tolerance)
            cost, iterations = cost - own / 2, max(iterations, steps)
    return SinkhornCost(cost, regularization, iterations)


def _solve(problem: "_Problem", scale: float, eps: float, limit: int, tolerance: float) -> tuple[float, int]:
    """The value at ``eps`` and the iterations it took."""
    if len(problem.a) > len(problem.b):
        problem = problem.turned()
    try:
        return _anneal(problem, scale, eps, limit, tolerance)
    except _BeyondFloat64 as stopped:
        # Potentials of earlier stages can be as large as the typical cost. Near copies need only tiny ones, and have
        # tiny ones if they start from none. Other sets would crawl to the limit from there.
        try:
            return _anneal(problem, eps, eps, min(limit, NEAR_COPY_ITERATIONS), tolerance)
        except MemfastError:
            raise stopped from None


def _anneal(problem: "_Problem", start: float, eps: float, limit: int, tolerance: float) -> tuple[float, int]:
    """Regularizations from ``start`` down to ``eps``; the value and the iterations of all of them."""
    improve = _newton if problem.matrix is not None and len(problem.a) <= NEWTON_ROWS else _sinkhorn
    f = torch.zeros_like(problem.a)
    path: list[tuple[float, torch.Tensor]] = []
    iterations = 0
    stage = max(start, eps)
    while True:
        if len(path) > 1:
            f = _extrapolated(problem, path, stage)
        goal = tolerance if stage == eps else None
        f, value, iterations = improve(problem, f, stage, goal, iterations, limit)
        if value is not None:
            return value, iterations
        path = [*path[-1:], (stage, f)]
        stage = max(stage * ANNEALING_RATIO, eps)


def _newton(
    problem: "_Problem", f: torch.Tensor, eps: float, tolerance: float | None, done: int, limit: int
) -> tuple[torch.Tensor, float | None, int]:
    """Levenberg-Marquardt steps on ``f -> a f + b g(f)``, the dual with g eliminated, whose gradient is ``a - r``."""
    costs = next(problem.blocks())[1]
    dual, g = problem.dual(f, eps)
    damping, stalled, least = LEAST_DAMPING, 0, math.inf
    for count in range(limit + 1):
        plan = problem.plan(costs, slice(None), f, g, eps)
        marginal = plan.sum(dim=1)
        gradient = problem.a - marginal
        error = float(gradient.abs().sum())
        small = error <= STAGE_ERROR
        if tolerance is None and (small or count >= STAGE_ITERATIONS):
            return f, None, done
        if tolerance is not None and small:
            value = problem.feasible_cost(f, eps)
            if value - dual <= tolerance * value:
                return f, value, done
        if done >= limit:
            raise _not_converged(limit, eps)
        if stalled >= STALLED_STEPS:
            raise _BeyondFloat64(eps)
        rounding = GAIN_ROUNDINGS * UNIT_ROUNDOFF * (abs(dual) + float(f.abs().max()))
        curvature = -(plan / problem.b) @ plan.T
        size = torch.maximum(marginal, problem.a)
        while True:
            damped = curvature.clone()
            damped.diagonal().add_(marginal + damping * size)
            factor, failed = torch.linalg.cholesky_ex(damped)
            if not int(failed):
                step = eps * torch.cholesky_solve(gradient[:, None], factor)[:, 0]
                gain = float(gradient @ step)
                new_dual, new_g = problem.dual(f + step, eps)
                if new_dual >= dual + SUFFICIENT_GAIN * gain - rounding:
                    break
            if damping > LARGEST_DAMPING:
                # No step in the Newton direction gains: Sinkhorn's own step never loses.
                step = problem.soft_minimum(g, eps) - f
                new_dual, new_g = problem.dual(f + step, eps)
                break
            damping *= 10
        stalled = stalled + 1 if new_dual - dual <= rounding and error > STALLED_SHARE * least else 0
        least = min(least, error)
        damping = max(damping / 30, LEAST_DAMPING)
        f, dual, g = f + step, new_dual, new_g
        done += 1
    raise _not_converged(limit, eps)


def _sinkhorn(
    problem: "_Problem", f: torch.Tensor, eps: float, tolerance: float | None, done: int, limit: int
) -> tuple[torch.Tensor, float | None, int]:
    """Sinkhorn's iteration, over-relaxed once it is near; a set against itself has one potential, which is averaged."""
    turned, alike = problem.turned(), problem.x is problem.y
    g = f if alike else turned.soft_minimum(f, eps)
    start = done
    while True:
        new_f = problem.soft_minimum(g, eps)
        error = float((problem.a * torch.expm1((f - new_f) / eps)).abs().sum())
        near = error <= STAGE_ERROR
        if tolerance is None and (near or done - start >= STAGE_ITERATIONS):
            return f, None, done
        if tolerance is not None and (done - start) % ITERATIONS_PER_CHECK == 0 and near:
            value, dual = problem.feasible_cost(f, eps), problem.dual(f, eps)[0]
            if value - dual <= tolerance * value:
                return f, value, done
        if done >= limit:
            raise _not_converged(limit, eps)
        done += 1
        if alike:
            f = g = (f + new_f) / 2
        else:
            relaxation = RELAXATION if near else 1.0
            f = torch.lerp(f, new_f, relaxation)
            g = torch.lerp(g, turned.soft_minimum(f, eps), relaxation)


def _extrapolated(problem: "_Problem", path: list[tuple[float, torch.Tensor]], eps: float) -> torch.Tensor:
    """The line through the last two optima at ``eps``, where that is better than the last one itself."""
    (first, f_first), (last, f_last) = path
    predicted = f_last + (f_last - f_first) * ((eps - last) / (last - first))
    better = problem.dual(predicted, eps)[0] > problem.dual(f_last, eps)[0]
    return predicted if better else f_last


class _Problem:
    """Two weighted sets and their costs: a matrix where it is small, else blocks that are made when asked for."""

    def __init__(
        self, x: tuple[torch.Tensor, torch.Tensor], y: tuple[torch.Tensor, torch.Tensor], p: float, *, turn: bool = True
    ) -> None:
        self.x, self.a = x
        self.y, self.b = y
        self.p = p
        self.rows = max(1, ENTRIES_AT_ONCE // len(self.b))
        small = turn and len(self.a) * len(self.b) <= ENTRIES_AT_ONCE
        self.matrix = _costs(self.x, self.y, p) if small else None
        self._turned: _Problem | None = None

    def turned(self) -> "_Problem":
        """The same with x and y exchanged."""
        if self._turned is None:
            self._turned = _Problem((self.y, self.b), (self.x, self.a), self.p, turn=False)
            self._turned._turned = self
            if self.matrix is not None:
                self._turned.matrix = self.matrix.T.contiguous()
        return self._turned

    def blocks(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """The cost matrix, some rows at a time."""
        if self.matrix is not None:
            yield slice(0, len(self.a)), self.matrix
            return
        for start in range(0, len(self.a), self.rows):
            part = slice(start, min(start + self.rows, len(self.a)))
            yield part, _costs(self.x[part], self.y, self.p)

    def mean_cost(self) -> float:
        return float(sum(self.a[part] @ (block @ self.b) for part, block in self.blocks()))

    def soft_minimum(self, g: torch.Tensor, eps: float) -> torch.Tensor:
        """``-eps log sum_j b_j exp((g_j - C_ij) / eps)`` of each row."""
        masses = self.b.log()
        return torch.cat([-eps * torch.logsumexp((g - block) / eps + masses, dim=1) for _, block in self.blocks()])

    def dual(self, f: torch.Tensor, eps: float) -> tuple[float, torch.Tensor]:
        """``a f + b g``, a lower bound of the cost, and the best g for this f, with which the columns' sums are b."""
        g = self.turned().soft_minimum(f, eps)
        return float(self.a @ f + self.b @ g), g

    def plan(self, block: torch.Tensor, part: slice, f: torch.Tensor, g: torch.Tensor, eps: float) -> torch.Tensor:
        """``a_i b_j exp((f_i + g_j - C_ij) / eps)`` for a block of costs."""
        return self.a[part, None] * self.b * torch.exp((f[part, None] - block + g) / eps)

    def feasible_cost(self, f: torch.Tensor, eps: float) -> float:
        """The cost of the plan of f, rows scaled down to their mass, the rest spread (Altschuler et al. 2017)."""
        g = self.turned().soft_minimum(f, eps)
        sums = torch.cat([self.plan(block, part, f, g, eps).sum(dim=1) for part, block in self.blocks()])
        kept = (self.a / sums).clamp_max(1)
        columns = sum(kept[part] @ self.plan(block, part, f, g, eps) for part, block in self.blocks())
        row_rest, column_rest = (self.a - kept * sums).clamp_min(0), (self.b - columns).clamp_min(0)
        row_rest = row_rest / row_rest.sum().clamp_min(torch.finfo(row_rest.dtype).tiny)
        total = 0.0
        for part, block in self.blocks():
            plan = kept[part, None] * self.plan(block, part, f, g, eps) + row_rest[part, None] * column_rest
            density = plan / (self.a[part, None] * self.b)
            total += float((plan * block).sum() + eps * torch.xlogy(plan, density).sum())
        return total


def _costs(x: torch.Tensor, y: torch.Tensor, p: float) -> torch.Tensor:
    """``||x_i - y_j||^p``; entries that the expansion about the mean would round badly come from the differences."""
    mean = y.mean(dim=0)
    near, far = x - mean, y - mean
    norms = (near * near).sum(dim=1)[:, None] + (far * far).sum(dim=1)
    squared = norms - 2 * (near @ far.T)
    share = 4 * (x.shape[1] + 8) * UNIT_ROUNDOFF / SCREEN_ERROR
    rows, columns = (squared <= share * norms).nonzero(as_tuple=True)
    step = max(1, ENTRIES_AT_ONCE // x.shape[1])
    for chosen, others in zip(rows.split(step), columns.split(step), strict=True):
        squared[chosen, others] = (x[chosen] - y[others]).square().sum(dim=1)
    return squared if p == 2 else squared ** (p / 2)


def _not_converged(limit: int, eps: float) -> MemfastError:
    return MemfastError(
        f"Sinkhorn did not converge within {limit} iterations at regularization {eps:.3g}. "
        "Raise maximum_iterations, the tolerance or the regularization."
    )


class _BeyondFloat64(MemfastError):
    def __init__(self, eps: float) -> None:
        super().__init__(
            f"Sinkhorn cannot reach its tolerance at regularization {eps:.3g}: rounding in float64 stops it first. "
            "Raise the tolerance or the regularization, or take the exact distance (method='auto')."
        )
