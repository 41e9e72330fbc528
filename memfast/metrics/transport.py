"""The Wasserstein distance between two sets of samples, exact where it can be, named otherwise."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrices, as_weights
from memfast.metrics.assignment import optimal_assignment
from memfast.metrics.network_simplex import optimal_flow
from memfast.metrics.one_dimensional import cost_bounds, require_exponent, transport_costs
from memfast.metrics.pair_costs import UNIT_ROUNDOFF
from memfast.metrics.sinkhorn import sinkhorn_cost
from memfast.metrics.sliced import PROJECTIONS, max_sliced_cost, random_directions, require_projections, sliced_costs

EXACT_GAP = 1e-12
ROOT_ROUNDING = 8 * UNIT_ROUNDOFF
LARGEST_EXPONENT = 1000
BATCH = 1000
REPEATS = 10
METHODS = (
    "auto", "sorting", "quantiles", "assignment", "network_simplex", "sinkhorn", "sliced", "max_sliced", "minibatch",
)  # fmt: skip


@dataclass(frozen=True)
class WassersteinResult:
    """A transport distance and how it was found.

    Attributes:
        value: W_p, the p-th root taken, in the units of the features.
        method: what computed it.
        gap: a bound of the distance of ``value`` from the true W_p of the points as given, from dual potentials and
            with every rounding counted; 0.0 where that bound is at most 1e-12 of ``value``. It equals ``value`` where
            nothing could be proven from below. NaN for methods that estimate another quantity (sinkhorn, sliced,
            max_sliced, minibatch).
        p: the exponent.
        details: numbers of the method: iterations, regularization, standard error.
        columns: the partner in ``y`` of each row of ``x`` (assignment only).
        bounds: two numbers between which the true W_p lies, never rounded to one as ``gap`` is; NaN where ``gap`` is.
    """

    value: float
    method: str
    gap: float
    p: float
    details: dict[str, float] = field(default_factory=dict)
    columns: np.ndarray | None = field(default=None, repr=False, compare=False)
    bounds: tuple[float, float] = field(default=(math.nan, math.nan), repr=False, compare=False)

    def __float__(self) -> float:
        return self.value


def wasserstein(
    x: Any, y: Any, p: float = 2, *, method: str = "auto", x_weights: Any = None, y_weights: Any = None, **options: Any
) -> WassersteinResult:
    """W_p between two sets with the Euclidean distance: the least mean cost of moving one onto the other.

    ``W_p = (min_pi sum_ij pi_ij ||x_i - y_j||^p)^(1/p)``; range 0 to infinity in the units of the features, 0 for
    equal sets, lower means closer distributions. Against a training set a low value is called alignment by some
    papers and memorization by others: never read it alone.

    Args:
        x: ``[n, d]``, or ``[n]`` for one dimension.
        y: ``[m, d]``.
        p: exponent, at least 1.
        method: ``auto`` takes an exact one: ``sorting`` or ``quantiles`` in one dimension, ``assignment`` for equal
            sizes without weights (lapx), ``network_simplex`` otherwise (POT). By name only: ``sinkhorn`` (entropic,
            debiased), ``sliced``, ``max_sliced``, ``minibatch`` (mean of the exact W_p^p of random batches, which is
            biased upwards and is not W_p).
        x_weights: ``[n]``, at least 0; None means equal.
        y_weights: ``[m]``.
        **options: sinkhorn: ``regularization``, ``debiased``, ``maximum_iterations``, ``tolerance``, ``device``;
            sliced and max_sliced: ``projections``, ``seed``, ``directions`` (sliced), ``steps``, ``restarts`` (max);
            network_simplex: ``maximum_iterations``; minibatch: ``batch``, ``repeats``, ``seed``.

    Raises:
        InputError: unequal widths, non-finite values (the row is named), bad weights, an unknown method or option, a
            ``p`` so large that float64 does not hold the costs.
        MissingPackageError: the solver's package is not installed.
        MemfastError: a solver did not converge.

    Source: Villani 2009; Jonker and Volgenant 1987; Feydy et al. 2019 for the debiased Sinkhorn cost.

    >>> wasserstein([0.0, 1.0, 3.0], [5.0, 6.0, 8.0], p=1)
    WassersteinResult(value=5.0, method='sorting', gap=0.0, p=1.0, details={})
    """
    p = require_exponent(p)
    if method not in METHODS:
        raise InputError("method", expected=f"one of {', '.join(METHODS)}", received=repr(method))
    solve = {
        "sorting": _one_dimensional, "quantiles": _one_dimensional, "assignment": _assignment,
        "network_simplex": _network_simplex, "sinkhorn": _sinkhorn, "sliced": _sliced, "max_sliced": _max_sliced,
        "minibatch": _minibatch,
    }  # fmt: skip
    if method in ("sliced", "max_sliced"):
        return _call(solve[method], method, options, x, y, p, x_weights, y_weights)
    x, y = as_matrices(("x", "y"), (x, y))
    weights = as_weights("x_weights", x_weights, len(x)), as_weights("y_weights", y_weights, len(y))
    if method == "auto":
        method = _exact_method(x, y, weights)
    if method == "network_simplex":
        # It moves the very weights; divided by their sum, copies with weights in proportion would differ by roundings.
        weights = (
            as_weights("x_weights", x_weights, len(x), normalize=False),
            as_weights("y_weights", y_weights, len(y), normalize=False),
        )
    if method == "sinkhorn":
        return _call(_sinkhorn, method, options, x, y, p, *weights)
    unit = _unit(x, y, p)
    found = _call(solve[method], method, options, x / unit, y / unit, p, *weights)
    if found.value == 0 and not _same_support(x, y, *weights):
        raise _unfit_exponent(p, "all costs to be above its least number")
    details = {name: value * unit if name == "standard_error" else value for name, value in found.details.items()}
    lower, upper = (bound * unit for bound in found.bounds)
    return replace(found, value=found.value * unit, gap=found.gap * unit, details=details, bounds=(lower, upper))


def _unit(x: np.ndarray, y: np.ndarray, p: float) -> float:
    """A power of two near the typical distance: solvers have absolute tolerances, and costs must not leave float64."""
    centre = y.mean(axis=0)
    moved = [points - centre for points in (x, y)]
    largest = max(float(np.abs(points).max()) for points in moved)
    if largest == 0:
        return 1.0
    squares = [np.square(points / largest).sum(axis=1) for points in moved]
    spread = largest * math.sqrt(float(np.concatenate(squares).mean()))
    farthest = largest * sum(math.sqrt(float(values.max())) for values in squares)
    if p * math.log2(farthest / spread) > LARGEST_EXPONENT:
        raise _unfit_exponent(p, f"distances of up to {farthest / spread:.3g} times the typical one")
    return 2.0 ** round(math.log2(spread))


def _same_support(x: np.ndarray, y: np.ndarray, a: np.ndarray | None, b: np.ndarray | None) -> bool:
    x, y = x if a is None else x[a > 0], y if b is None else y[b > 0]
    return np.array_equal(np.unique(x, axis=0), np.unique(y, axis=0))


def _unfit_exponent(p: float, reason: str) -> InputError:
    return InputError("p", expected=f"an exponent with which float64 holds {reason}", received=f"{p:g}")


def _exact_method(x: np.ndarray, y: np.ndarray, weights: tuple[np.ndarray | None, np.ndarray | None]) -> str:
    plain = len(x) == len(y) and all(weight is None for weight in weights)
    if x.shape[1] == 1:
        return "sorting" if plain else "quantiles"
    return "assignment" if plain else "network_simplex"


def _call(solve: Any, method: str, options: dict[str, Any], *arguments: Any) -> WassersteinResult:
    names = solve.__kwdefaults__ or {}
    unknown = sorted(set(options) - set(names))
    if unknown:
        known = ", ".join(names) or "none"
        raise InputError("options", expected=f"options of method '{method}' ({known})", received=", ".join(unknown))
    return solve(*arguments, **options)


def _one_dimensional(x: np.ndarray, y: np.ndarray, p: float, a: Any, b: Any) -> WassersteinResult:
    if x.shape[1] != 1:
        raise InputError("x", expected="one feature per row for this method", received=f"{x.shape[1]}")
    method = "sorting" if len(x) == len(y) and a is None and b is None else "quantiles"
    total = float(transport_costs(x, y, p, a, b)[0])
    return _exact(total, cost_bounds(total, x, y, p, weighted=a is not None or b is not None), method, p)


def _assignment(x: np.ndarray, y: np.ndarray, p: float, a: Any, b: Any) -> WassersteinResult:
    if len(x) != len(y) or a is not None or b is not None:
        raise InputError(
            "method",
            expected="equal sizes and no weights for 'assignment'",
            received=f"{len(x)} and {len(y)} rows" + (", weights" if a is not None or b is not None else ""),
            do="Use method='network_simplex'.",
        )
    found = optimal_assignment(x, y, p)
    bounds = found.lower_bound / len(x), found.upper_bound / len(x)
    return _exact(found.total / len(x), bounds, "assignment", p, found.columns)


def _network_simplex(
    x: np.ndarray, y: np.ndarray, p: float, a: Any, b: Any, *, maximum_iterations: int | None = None
) -> WassersteinResult:
    if maximum_iterations is not None:
        whole_number("maximum_iterations", maximum_iterations, least=1)
    found = optimal_flow(x, y, p, a, b, maximum_iterations)
    return _exact(found.total, (found.lower_bound, found.upper_bound), "network_simplex", p, None)


def _exact(
    total: float, bounds: tuple[float, float], method: str, p: float, columns: np.ndarray | None = None
) -> WassersteinResult:
    """The roots of a total cost and of the bounds between which the least one lies."""
    if total == 0:
        # Equal points differ by exactly 0; a 0 of underflow is refused where the supports are compared.
        bounds = 0.0, 0.0
    value = total ** (1 / p)
    lower, upper = (
        max(0.0, bound) ** (1 / p) * (1 + sign * ROOT_ROUNDING) for bound, sign in zip(bounds, (-1, 1), strict=True)
    )
    lower, upper = min(lower, value), max(upper, value)
    gap = max(value - lower, upper - value)
    return WassersteinResult(
        value, method, 0.0 if gap <= EXACT_GAP * value else gap, p, columns=columns, bounds=(lower, upper)
    )


def _sinkhorn(
    x: np.ndarray,
    y: np.ndarray,
    p: float,
    a: Any,
    b: Any,
    *,
    regularization: float | None = None,
    debiased: bool = True,
    maximum_iterations: int | None = None,
    tolerance: float | None = None,
    device: str = "cpu",
) -> WassersteinResult:
    limits = {"maximum_iterations": maximum_iterations, "tolerance": tolerance}
    given: dict[str, Any] = {name: value for name, value in limits.items() if value is not None}
    unit = _unit(x, y, p)
    if regularization is not None:
        regularization = finite_number("regularization", regularization, above=0) / unit**p
    found = sinkhorn_cost(
        x / unit, y / unit, p, a, b, regularization=regularization, debiased=debiased, device=device, **given
    )
    details = {
        "regularization": found.regularization * unit**p,
        "iterations": found.iterations,
        "cost": found.cost * unit**p,
    }
    return WassersteinResult(max(0.0, found.cost) ** (1 / p) * unit, "sinkhorn", math.nan, p, details)


def _sliced(
    x: Any, y: Any, p: float, a: Any, b: Any, *, projections: int = PROJECTIONS, seed: int = 0, directions: Any = None
) -> WassersteinResult:
    if directions is None:
        width = math.prod(x.shape[1:]) if hasattr(x, "shape") else as_matrices(("x",), (x,))[0].shape[1]
        directions = random_directions(width, require_projections(projections), seed)
    costs = sliced_costs(x, y, p, directions, a, b)
    mean = float(costs.mean())
    value = mean ** (1 / p)
    error = float(costs.std()) / math.sqrt(len(costs)) if len(costs) > 1 else math.nan
    slope = value / (p * mean) if mean > 0 else 0.0
    details = {"projections": len(costs), "standard_error": error * slope}
    return WassersteinResult(value, "sliced", math.nan, p, details)


def _max_sliced(
    x: Any,
    y: Any,
    p: float,
    a: Any,
    b: Any,
    *,
    projections: int = PROJECTIONS,
    seed: int = 0,
    steps: int | None = None,
    restarts: int | None = None,
) -> WassersteinResult:
    if a is not None or b is not None:
        raise InputError("x_weights", expected="no weights for 'max_sliced'", received="weights")
    given: dict[str, Any] = {k: v for k, v in {"steps": steps, "restarts": restarts}.items() if v is not None}
    cost, _ = max_sliced_cost(x, y, p, projections=projections, seed=seed, **given)
    return WassersteinResult(cost ** (1 / p), "max_sliced", math.nan, p, {"projections": projections})


def _minibatch(
    x: np.ndarray, y: np.ndarray, p: float, a: Any, b: Any, *, batch: int = BATCH, repeats: int = REPEATS, seed: int = 0
) -> WassersteinResult:
    if a is not None or b is not None:
        raise InputError("x_weights", expected="no weights for 'minibatch'", received="weights")
    whole_number("batch", batch, least=1, greatest=min(len(x), len(y)), do="A batch is drawn without replacement.")
    whole_number("repeats", repeats, least=1)
    generator = np.random.default_rng(whole_number("seed", seed, least=0))
    costs = np.empty(repeats)
    for repeat in range(repeats):
        rows, columns = generator.permutation(len(x))[:batch], generator.permutation(len(y))[:batch]
        costs[repeat] = optimal_assignment(x[rows], y[columns], p).total / batch
    mean = float(costs.mean())
    slope = mean ** (1 / p) / (p * mean) if mean > 0 else 0.0
    error = float(costs.std(ddof=1)) / math.sqrt(repeats) * slope if repeats > 1 else math.nan
    details = {"batch": batch, "repeats": repeats, "standard_error": error}
    return WassersteinResult(mean ** (1 / p), "minibatch", math.nan, p, details)
