"""Sliced and max-sliced Wasserstein distances: many one-dimensional problems, each a sort."""

from typing import Any

import numpy as np
import torch

from memfast.foundation.arguments import seed_number, whole_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrices, as_weights
from memfast.metrics.one_dimensional import (
    VALUES_PER_BLOCK,
    in_threads,
    require_exponent,
    require_finite_costs,
    transport_costs,
)

PROJECTIONS = 128
RESTARTS = 4
ASCENT_STEPS = 50
ASCENT_RATE = 0.3
SORTED_VALUES_AT_ONCE = 1 << 24
CONVERTED_VALUES_AT_ONCE = 1 << 22


def random_directions(width: int, count: int, seed: int = 0) -> torch.Tensor:
    """``count`` unit vectors, float64 ``[count, width]``, uniform on the sphere; a function of ``seed`` alone."""
    generator = torch.Generator().manual_seed(seed_number("seed", seed))
    directions = torch.randn(count, width, generator=generator, dtype=torch.float64)
    return directions / directions.norm(dim=1, keepdim=True)


def sliced_costs(
    x: Any, y: Any, p: float, directions: torch.Tensor, x_weights: Any = None, y_weights: Any = None
) -> torch.Tensor:
    """``W_p^p`` of the two sets along each direction, float64 ``[count]``, on the device of ``x``.

    Projections are made in float64 whatever the dtype of the sets, because the difference of two near copies has only
    the last digits of theirs. Exchanging the sets gives the same bits. Both sets of tensors stay where they are: a GPU
    sorts there, a CPU sorts in NumPy, whose vector sort is faster.
    """
    require_exponent(p)
    if _on_accelerator(x) and x_weights is None and y_weights is None and len(x) == len(y) > 0:
        return _sliced_on_device(*_tensors_on_device(x, y), p, directions)
    x, y = as_matrices(("x", "y"), (x, y), dtype=_dtype(x, y))
    x_weights, y_weights = as_weights("x_weights", x_weights, len(x)), as_weights("y_weights", y_weights, len(y))
    directions = directions.to("cpu", torch.float64)
    if directions.shape[1] != x.shape[1]:
        raise InputError("directions", expected=f"[count, {x.shape[1]}]", received=f"{list(directions.shape)}")
    sets = [torch.from_numpy(points) for points in (x, y)]
    middle = _middle(*sets)
    step = max(1, SORTED_VALUES_AT_ONCE // (len(x) + len(y)))
    parts = []
    for chosen in directions.split(step):
        projected = [_projections(points, chosen, middle).numpy() for points in sets]
        if x_weights is None and y_weights is None:
            parts.append(_equal_weight_costs(projected[0], projected[1], p))
        else:
            parts.append(transport_costs(projected[0].T, projected[1].T, p, x_weights, y_weights))
    return torch.from_numpy(require_finite_costs(np.concatenate(parts)))


def max_sliced_cost(
    x: Any, y: Any, p: float, *, projections: int, seed: int, steps: int = ASCENT_STEPS, restarts: int = RESTARTS
) -> tuple[float, torch.Tensor]:
    """The largest ``W_p^p`` along one direction that a search finds, and that direction.

    The best of ``projections`` random directions are improved by gradient ascent on the sphere. The value is a lower
    bound of the maximum over all directions, which no method is known to find exactly.
    """
    require_exponent(p)
    require_projections(projections)
    whole_number("steps", steps, least=0)
    whole_number("restarts", restarts, least=1)
    device = x.device if _on_accelerator(x) else torch.device("cpu")
    matrices = as_matrices(("x", "y"), (x, y))
    if len(matrices[0]) != len(matrices[1]):
        raise InputError("y", expected=f"{len(matrices[0])} rows, as x has", received=f"{len(matrices[1])}")
    points, others = (torch.from_numpy(matrix).to(device) for matrix in matrices)
    shift = (points.mean(dim=0) - others.mean(dim=0))[None]
    candidates = torch.cat([random_directions(points.shape[1], projections, seed).to(device), _unit(shift)])
    costs = sliced_costs(points, others, p, candidates).to(device)
    best = candidates[costs.topk(min(restarts, len(candidates))).indices].clone()
    value, winner = float(costs.max()), candidates[int(costs.argmax())]
    for step in range(steps):
        best.requires_grad_(True)
        current = _differentiable_costs(points, others, p, best)
        gradient = torch.autograd.grad(current.sum(), best)[0]
        with torch.no_grad():
            if float(current.max()) > value:
                value, winner = float(current.max()), best[int(current.argmax())].clone()
            best = _unit(best + ASCENT_RATE / (1 + step) ** 0.5 * _unit(gradient))
    return value, winner.detach()


def require_projections(count: int) -> int:
    """``count`` where it is a positive integer."""
    return whole_number("projections", count, least=1)


def _middle(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The middle of the range of each feature over both sets, float64 ``[d]``: a mean would prefer one of the sets."""
    lowest, highest = torch.minimum(x.amin(dim=0), y.amin(dim=0)), torch.maximum(x.amax(dim=0), y.amax(dim=0))
    return lowest.double() / 2 + highest.double() / 2


def _projections(points: torch.Tensor, directions: torch.Tensor, middle: torch.Tensor) -> torch.Tensor:
    """Float64 ``[count, n]`` of points about ``middle``, without a float64 copy of all of them."""
    step = max(1, CONVERTED_VALUES_AT_ONCE // points.shape[1])
    projected = torch.empty(len(directions), len(points), dtype=torch.float64, device=points.device)
    for start in range(0, len(points), step):
        part = points[start : start + step].double() - middle
        projected[:, start : start + step] = directions @ part.T
    return projected


def _equal_weight_costs(x: np.ndarray, y: np.ndarray, p: float) -> np.ndarray:
    """As `transport_costs`, of projections ``[count, n]``, the layout that the sort wants; sorts in place."""
    if x.shape != y.shape:
        return transport_costs(x.T, y.T, p)

    def of(start: int) -> np.ndarray:
        first, second = x[start : start + step], y[start : start + step]
        first.sort(axis=1)
        second.sort(axis=1)
        gap = np.subtract(first, second, out=first)
        return np.einsum("ij,ij->i", gap, gap) / x.shape[1] if p == 2 else np.mean(np.abs(gap) ** p, axis=1)

    step = max(1, VALUES_PER_BLOCK // x.shape[1])
    return np.concatenate(in_threads(of, range(0, len(x), step)))


def _sliced_on_device(x: torch.Tensor, y: torch.Tensor, p: float, directions: torch.Tensor) -> torch.Tensor:
    directions = directions.to(x.device, torch.float64)
    middle = _middle(x, y)
    chunks = directions.split(max(1, (1 << 27) // len(x)))
    return torch.cat(
        [_sorted_costs(_projections(x, chosen, middle), _projections(y, chosen, middle), p) for chosen in chunks]
    )


def _tensors_on_device(x: torch.Tensor, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as rows of a floating dtype; checked as `as_matrices` does."""
    sets = [torch.as_tensor(points, device=x.device).flatten(1).detach() for points in (x, y)]
    sets = [points if points.is_floating_point() else points.double() for points in sets]
    if sets[0].shape != sets[1].shape or not all(bool(points.isfinite().all()) for points in sets):
        as_matrices(("x", "y"), tuple(sets))
    return sets[0], sets[1]


def _differentiable_costs(x: torch.Tensor, y: torch.Tensor, p: float, directions: torch.Tensor) -> torch.Tensor:
    return _sorted_costs(directions @ x.T, directions @ y.T, p)


def _sorted_costs(x: torch.Tensor, y: torch.Tensor, p: float) -> torch.Tensor:
    gap = x.sort(dim=1).values - y.sort(dim=1).values
    return gap.abs().pow(p).mean(dim=1)


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)


def _on_accelerator(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type not in ("cpu", "meta", "mps")  # mps has no float64


def _dtype(x: Any, y: Any) -> Any:
    return np.float32 if all("float32" in str(getattr(value, "dtype", "")) for value in (x, y)) else np.float64
