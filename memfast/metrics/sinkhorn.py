"""Entropic transport in the log domain, streamed: memory grows with the rows, never with their square."""

from typing import NamedTuple

import numpy as np
import torch

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import MemfastError

MAXIMUM_ITERATIONS = 2000
TOLERANCE = 1e-5
RELATIVE_REGULARIZATION = 0.05
ENTRIES_AT_ONCE = 1 << 22


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
        maximum_iterations: a problem that needs more is an error, not a warning.
        tolerance: the mean change of a potential, in units of the mean cost, that counts as converged.
        device: where to compute.

    Raises:
        MemfastError: the potentials had not converged after ``maximum_iterations``.
    """
    whole_number("maximum_iterations", maximum_iterations, least=1)
    finite_number("tolerance", tolerance, above=0)
    if regularization is not None:
        finite_number("regularization", regularization, above=0)
    tensors = [torch.from_numpy(points - y.mean(axis=0)).to(device) for points in (x, y)]
    weights = [
        torch.full((len(points),), 1 / len(points), dtype=torch.float64, device=device)
        if given is None
        else torch.from_numpy(given).to(device)
        for points, given in zip(tensors, (x_weights, y_weights), strict=True)
    ]
    scale = _mean_cost(tensors[0], tensors[1], p, weights[0], weights[1])
    if regularization is None:
        regularization = RELATIVE_REGULARIZATION * scale
    if scale == 0:
        return SinkhornCost(0.0, regularization, 0)
    limits = (regularization, maximum_iterations, tolerance * scale)
    cost, iterations = _between(tensors[0], tensors[1], weights[0], weights[1], p, *limits)
    if debiased:
        for points, mass in zip(tensors, weights, strict=True):
            own, steps = _within(points, mass, p, *limits)
            cost, iterations = cost - own / 2, max(iterations, steps)
    return SinkhornCost(cost, regularization, iterations)


def _between(
    x: torch.Tensor,
    y: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    p: float,
    eps: float,
    limit: int,
    tolerance: float,
) -> tuple[float, int]:
    """Averaging the old with the new potentials keeps near-equal sets, the usual case, from creeping."""
    f, g = torch.zeros_like(a), torch.zeros_like(b)
    for iteration in range(1, limit + 1):
        new_f, new_g = _soft_minimum(x, y, g, b, p, eps), _soft_minimum(y, x, f, a, p, eps)
        change = max(float(a @ (new_f - f).abs()), float(b @ (new_g - g).abs()))
        f, g = (f + new_f) / 2, (g + new_g) / 2
        if change <= tolerance:
            g = _soft_minimum(y, x, f, a, p, eps)
            return float(a @ f + b @ g), iteration
    raise _not_converged(limit, eps)


def _within(
    points: torch.Tensor, mass: torch.Tensor, p: float, eps: float, limit: int, tol: float
) -> tuple[float, int]:
    """The symmetric problem has one potential."""
    f = torch.zeros_like(mass)
    for iteration in range(1, limit + 1):
        new = _soft_minimum(points, points, f, mass, p, eps)
        change = float(mass @ (f - new).abs())
        f = (f + new) / 2
        if change <= tol:
            return 2 * float(mass @ f), iteration
    raise _not_converged(limit, eps)


def _soft_minimum(
    x: torch.Tensor, y: torch.Tensor, g: torch.Tensor, b: torch.Tensor, p: float, eps: float
) -> torch.Tensor:
    """``-eps log sum_j b_j exp((g_j - C_ij) / eps)``, block by block."""
    offset = g / eps + b.log()
    step = max(1, ENTRIES_AT_ONCE // len(y))
    return torch.cat([-eps * torch.logsumexp(offset - _costs(rows, y, p) / eps, dim=1) for rows in x.split(step)])


def _mean_cost(x: torch.Tensor, y: torch.Tensor, p: float, a: torch.Tensor, b: torch.Tensor) -> float:
    step = max(1, ENTRIES_AT_ONCE // len(y))
    parts = zip(x.split(step), a.split(step), strict=True)
    return float(sum(mass @ (_costs(rows, y, p) @ b) for rows, mass in parts))


def _costs(x: torch.Tensor, y: torch.Tensor, p: float) -> torch.Tensor:
    squared = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * (x @ y.T)
    squared = squared.clamp_min_(0)
    return squared if p == 2 else squared ** (p / 2)


def _not_converged(limit: int, eps: float) -> MemfastError:
    return MemfastError(
        f"Sinkhorn did not converge within {limit} iterations at regularization {eps:.3g}. "
        "Raise maximum_iterations or the regularization."
    )
