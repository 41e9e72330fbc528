"""Exact transport between weighted sets of any sizes: POT's network simplex, its duals checked."""

import numpy as np

from memfast.foundation.errors import MemfastError, MissingPackageError
from memfast.metrics.assignment import FLOAT64_ROUNDING, cost_blocks

MAXIMUM_ITERATIONS = 1_000_000_000
OPTIMAL = 1


def optimal_flow(
    x: np.ndarray,
    y: np.ndarray,
    p: float,
    x_weights: np.ndarray | None,
    y_weights: np.ndarray | None,
    maximum_iterations: int = MAXIMUM_ITERATIONS,
) -> tuple[float, float]:
    """The least total cost ``sum_ij pi_ij ||x_i - y_j||^p`` and a lower bound of it from the dual potentials.

    Raises:
        MissingPackageError: POT is not installed.
        MemfastError: the solver stopped before the optimum; POT itself only warns.
    """
    try:
        import ot
    except ImportError:
        raise MissingPackageError("POT", purpose="transport between sets of different sizes", extra="audit") from None
    a = np.full(len(x), 1 / len(x)) if x_weights is None else x_weights
    b = np.full(len(y), 1 / len(y)) if y_weights is None else y_weights
    costs = np.empty((len(x), len(y)))
    for start, block in cost_blocks(x, y, p):
        costs[start : start + len(block)] = block
    total, log = ot.emd2(a, b, costs, numItermax=maximum_iterations, log=True, check_marginals=False)
    if log["result_code"] != OPTIMAL:
        raise MemfastError(
            f"the network simplex stopped before the optimum after at most {maximum_iterations} iterations "
            f"(code {log['result_code']}: {log['warning']}). Raise maximum_iterations or use fewer points."
        )
    v = np.asarray(log["v"])
    u = np.full(len(x), np.inf)
    for start in range(0, len(x), 1024):
        u[start : start + 1024] = (costs[start : start + 1024] - v).min(axis=1)
    rounding = FLOAT64_ROUNDING * float(a @ np.abs(u) + b @ np.abs(v))
    return float(total), min(float(total), float(a @ u + b @ v) - rounding)
