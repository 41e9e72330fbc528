"""Wasserstein distances on the line: by sorting, or by merging the two quantile functions."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrices, as_weights
from memfast.metrics.pair_costs import UNIT_ROUNDOFF, cost_rounding

VALUES_PER_BLOCK = 1 << 18


def wasserstein_per_dimension(
    x: Any, y: Any, p: float = 2, *, x_weights: Any = None, y_weights: Any = None
) -> np.ndarray:
    """W_p of each feature by itself: float64 ``[d]``, 0 where the two distributions of that feature agree.

    Range 0 to infinity, in the units of the features; a lower value means closer distributions. It says nothing of
    how the features depend on each other. Equal sizes without weights are a sort, otherwise the quantile functions
    are merged; both are exact. With p = 1 it equals ``scipy.stats.wasserstein_distance``.

    Args:
        x: ``[n, d]`` (or ``[n]``).
        y: ``[m, d]``.
        p: exponent, at least 1.
        x_weights: ``[n]``, or None for equal weights.
        y_weights: ``[m]``, or None.

    >>> wasserstein_per_dimension([[0.0, 0.0], [1.0, 0.0]], [[1.0, 3.0], [2.0, 3.0]], p=1)
    array([1., 3.])
    """
    require_exponent(p)
    x, y = as_matrices(("x", "y"), (x, y), dtype=_common_dtype(x, y))
    x_weights, y_weights = as_weights("x_weights", x_weights, len(x)), as_weights("y_weights", y_weights, len(y))
    with np.errstate(over="ignore", invalid="ignore"):
        costs = transport_costs(x, y, p, x_weights, y_weights)
    return require_finite_costs(costs) ** (1 / p)


def require_finite_costs(costs: np.ndarray) -> np.ndarray:
    """``costs``, where float64 holds them.

    Raises:
        InputError: it does not.
    """
    if not np.isfinite(costs).all():
        raise InputError(
            "x and y", expected="magnitudes whose p-th power float64 holds", received="larger ones",
            do="Scale both sets by one number.",
        )  # fmt: skip
    return costs


def transport_costs(
    x: np.ndarray, y: np.ndarray, p: float, x_weights: np.ndarray | None = None, y_weights: np.ndarray | None = None
) -> np.ndarray:
    """``W_p^p`` of each column, float64 ``[d]``; columns are sorted a cache-full at a time, on all cores."""
    step = max(1, VALUES_PER_BLOCK // max(len(x), len(y)))
    starts = range(0, x.shape[1], step)

    def of(start: int) -> np.ndarray:
        columns = slice(start, start + step)
        return _block_costs(x[:, columns], y[:, columns], p, x_weights, y_weights)

    return np.concatenate(in_threads(of, starts))


def cost_bounds(total: float, x: np.ndarray, y: np.ndarray, p: float, *, weighted: bool) -> tuple[float, float]:
    """Between which two numbers the exact ``W_p^p`` of one feature lies if `transport_costs` gave ``total``.

    Without weights every term is right to a few roundings. Weights sum up to levels that are off by as many roundings
    as there are rows, and a level that is off moves that much mass by at most the range of the values.
    """
    count = len(x) + len(y)
    rounding = cost_rounding(1, p)
    error = (rounding.relative + cost_rounding(count, 2).relative) * total + rounding.floor
    if weighted:
        reach = max(float(x.max()), float(y.max())) - min(float(x.min()), float(y.min()))
        error += 2 * UNIT_ROUNDOFF * count**2 * reach**p
    return total - error, total + error


def in_threads(function: Callable[[int], np.ndarray], starts: Sequence[int]) -> list[np.ndarray]:
    """``function`` of every start, in order; NumPy sorts and subtracts without the interpreter's lock."""
    if len(starts) < 2:
        return [function(start) for start in starts]
    with ThreadPoolExecutor(min(len(starts), torch.get_num_threads())) as pool:
        return list(pool.map(function, starts))


def _block_costs(
    x: np.ndarray, y: np.ndarray, p: float, x_weights: np.ndarray | None, y_weights: np.ndarray | None
) -> np.ndarray:
    if x_weights is None and y_weights is None:
        x, y = x.T.copy(), y.T.copy()
        x.sort(axis=1)
        y.sort(axis=1)
        if x.shape == y.shape:
            return _mean_power(x, y, p)
        left, right, mass = _merge_levels(*_uniform_levels(x.shape[1], y.shape[1]))
        return _mean_power(x[:, left], y[:, right], p, mass)
    return np.asarray([_weighted(x[:, j], y[:, j], p, x_weights, y_weights) for j in range(x.shape[1])])


def require_exponent(p: float) -> float:
    """``p``, or an error where it is not a finite number of at least 1."""
    return finite_number("p", p, least=1)


def _mean_power(x: np.ndarray, y: np.ndarray, p: float, mass: np.ndarray | None = None) -> np.ndarray:
    gap = np.subtract(x, y, dtype=np.float64)
    powers = np.square(gap, out=gap) if p == 2 else np.abs(gap, out=gap) if p == 1 else np.abs(gap, out=gap) ** p
    if mass is None:
        return powers.mean(axis=1)
    powers *= mass
    return powers.sum(axis=1)


def _weighted(
    x: np.ndarray, y: np.ndarray, p: float, x_weights: np.ndarray | None, y_weights: np.ndarray | None
) -> float:
    x_order, y_order = np.argsort(x, kind="stable"), np.argsort(y, kind="stable")
    levels = [
        np.cumsum(np.full(len(order), 1 / len(order)) if weights is None else weights[order])
        for order, weights in ((x_order, x_weights), (y_order, y_weights))
    ]
    left, right, mass = _merge_levels(*levels)
    return float(_mean_power(x[x_order][None, left], y[y_order][None, right], p, mass)[0])


def _uniform_levels(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Cumulative weights i/n and j/m as integers over the common denominator, so that equal levels are equal."""
    common = np.lcm(n, m)
    return np.arange(1, n + 1) * (common // n), np.arange(1, m + 1) * (common // m)


def _merge_levels(x_levels: np.ndarray, y_levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where both quantile functions are constant: index into x, index into y, and the mass of each piece."""
    top = x_levels[-1]
    levels = np.unique(np.minimum(np.concatenate([x_levels, y_levels]), top))
    mass = np.diff(levels, prepend=0) / top
    left = np.minimum(np.searchsorted(x_levels, levels, side="left"), len(x_levels) - 1)
    right = np.minimum(np.searchsorted(y_levels, levels, side="left"), len(y_levels) - 1)
    return left, right, mass


def _common_dtype(x: Any, y: Any) -> Any:
    float32 = all(str(getattr(value, "dtype", "")).endswith(("float32", "float16")) for value in (x, y))
    return np.float32 if float32 else np.float64
