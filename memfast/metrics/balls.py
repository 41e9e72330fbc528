"""Which points lie in which balls, for all pairs of two sets in one streamed pass.

A float32 product screens every pair; a pair whose screened distance lies within the product's error of a radius is
computed again from the differences in float64. So the counts are those of float64, at the speed of float32, and the
memory does not grow with the number of pairs.
"""

import numpy as np
import torch

BALL_ROWS = 512
POINT_ROWS = 8192
PAIRS_AT_ONCE = 1 << 22
FLOAT32_ROUNDING = 2.0**-24
TIE = 1e-12


def balls_around(
    first: np.ndarray, first_radii: np.ndarray, second: np.ndarray, second_radii: np.ndarray, *, closed: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the balls of each set that hold points of the other.

    Args:
        first: ``[n, d]``.
        first_radii: squared radii of the balls around ``first``, float64 ``[n]``.
        second: ``[m, d]``.
        second_radii: squared radii of the balls around ``second``, float64 ``[m]``.
        closed: whether a point on the sphere is inside; within 1e-12 of it counts as on it.

    Returns:
        int64 ``[m]``: balls of ``first`` that hold each second point; bool ``[n]``: whether a ball of ``second``
        holds each first point; bool ``[n]``: whether each ball of ``first`` holds a second point.
    """
    mean = second.mean(axis=0, dtype=np.float64)
    scale = _power_of_two_scale(mean, first, second)
    a, b = (((points - mean) * scale).astype(np.float32) for points in (first, second))
    a_norms, b_norms = (np.einsum("id,id->i", points, points, dtype=np.float64) for points in (a, b))
    holding = np.zeros(len(second), dtype=np.int64)
    held, covered = np.zeros(len(first), dtype=bool), np.zeros(len(first), dtype=bool)
    growth = (first.shape[1] + 8) * FLOAT32_ROUNDING
    for row in range(0, len(first), BALL_ROWS):
        rows = slice(row, row + BALL_ROWS)
        for column in range(0, len(second), POINT_ROWS):
            columns = slice(column, column + POINT_ROWS)
            squared = torch.addmm(
                torch.from_numpy(b_norms[columns].astype(np.float32)),
                torch.from_numpy(a[rows]), torch.from_numpy(b[columns]).T, alpha=-2,
            )  # fmt: skip
            squared += torch.from_numpy(a_norms[rows].astype(np.float32))[:, None]
            largest = float(np.sqrt(a_norms[rows].max()) + np.sqrt(b_norms[columns].max()))
            error = 2 * growth * largest**2
            around_first = _inside(
                squared, first[rows], second[columns], first_radii[rows],
                scale=scale, error=error, axis=0, closed=closed,
            )  # fmt: skip
            holding[columns] += around_first.sum(dim=0).numpy()
            covered[rows] |= around_first.any(dim=1).numpy()
            around_second = _inside(
                squared, first[rows], second[columns], second_radii[columns],
                scale=scale, error=error, axis=1, closed=closed,
            )  # fmt: skip
            held[rows] |= around_second.any(dim=1).numpy()
    return holding, held, covered


def _inside(
    squared: torch.Tensor,
    first: np.ndarray,
    second: np.ndarray,
    radii: np.ndarray,
    *,
    scale: float,
    error: float,
    axis: int,
    closed: bool,
) -> torch.Tensor:
    """bool ``[n, m]``: the pair's squared distance is below the radius of its row (axis 0) or column (axis 1).

    ``squared`` and ``error`` are in units of ``scale**-2``.
    """
    scaled = radii * scale * scale
    rounding = 4 * FLOAT32_ROUNDING * scaled
    low, high = (_along(scaled + sign * (error + rounding), axis) for sign in (-1, 1))
    inside = squared < low
    rows, columns = ((squared <= high) & ~inside).nonzero(as_tuple=True)
    for start in range(0, len(rows), max(1, PAIRS_AT_ONCE // first.shape[1])):
        part = slice(start, start + max(1, PAIRS_AT_ONCE // first.shape[1]))
        i, j = rows[part].numpy(), columns[part].numpy()
        difference = first[i].astype(np.float64) - second[j]
        exact = np.einsum("id,id->i", difference, difference)
        limit = radii[i] if axis == 0 else radii[j]
        tied = np.abs(exact - limit) <= TIE * limit
        inside[rows[part], columns[part]] = torch.from_numpy(np.where(tied, closed, exact < limit))
    return inside


def _power_of_two_scale(mean: np.ndarray, *sets: np.ndarray) -> float:
    """A power of two that brings the largest number, less the mean, near 1, so that float32 holds its square."""
    largest = max(
        float(np.abs(end - mean).max()) for points in sets for end in (points.min(axis=0), points.max(axis=0))
    )
    return float(2.0 ** -np.clip(np.frexp(largest)[1], -500, 500))


def _along(values: np.ndarray, axis: int) -> torch.Tensor:
    tensor = torch.from_numpy(values.astype(np.float32))
    return tensor[:, None] if axis == 0 else tensor[None]
