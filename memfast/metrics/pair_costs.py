"""Transport costs ``||x_i - y_j||^p`` of pairs of rows, with bounds of their rounding.

Two ways to one number. `pair_costs` subtracts first: slow, and right to a few roundings however close the pair or far
the origin. `cost_blocks` expands ``|x|^2 + |y|^2 - 2xy`` so that a matrix product does the work, and gives every entry
that would lose digits in the expansion to `pair_costs`. Solvers search the second and prove with the first.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BLOCK_ENTRIES = 1 << 20
SCREEN_ERROR = 1e-7
UNIT_ROUNDOFF = 2.0**-53
SUM_ROUNDINGS = 24
PAIRWISE_BLOCK = 128
POWER_ROUNDINGS = 8
LEAST_SQUARE = 2.0**-1020
LEAST_COST = 2.0**-1070


class CostRounding(NamedTuple):
    """How far `pair_costs` may be from the exact cost: ``relative * cost + root[i] * sqrt(cost) + floor``.

    Attributes:
        relative: roundings of the differences, squares, sum and power.
        floor: what underflow can hide.
        root: float64 ``[n]``; the effect of a shift that was rounded, by row of ``x``. None without one.
        screen: the relative error of an entry of `cost_blocks`.
    """

    relative: float = 0.0
    floor: float = 0.0
    root: np.ndarray | None = None
    screen: float = SCREEN_ERROR

    def of(self, costs: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The bound for each of ``costs``, which belong to these ``rows`` of ``x``."""
        bound = self.relative * costs + self.floor
        return bound if self.root is None else bound + self.root[rows] * np.sqrt(costs) + np.square(self.root[rows])


EXACT_COSTS = CostRounding()


def cost_rounding(width: int, p: float, scale: float = 1.0) -> CostRounding:
    """The rounding of `pair_costs` for rows of this width, times a power of two ``scale``.

    NumPy sums a contiguous row in blocks of 128, eight running sums each, and the blocks in pairs: at most
    19 + log2(width / 128) additions stand above any one term.
    """
    roundings = SUM_ROUNDINGS + max(0.0, math.log2(width / PAIRWISE_BLOCK))
    relative = UNIT_ROUNDOFF * (1.01 * p / 2 * roundings + (0 if p == 2 else POWER_ROUNDINGS))
    floor = max(LEAST_COST, (width * LEAST_SQUARE) ** (p / 2) * scale)
    return CostRounding(relative, floor, screen=SCREEN_ERROR * max(1.0, p))


def pair_costs(x: np.ndarray, y: np.ndarray, p: float) -> np.ndarray:
    """Cost ``||x_i - y_i||^p`` of the given pairs ``[n, d]``, from the differences, in float64."""
    difference = x - y
    squared = np.square(difference, out=difference).sum(axis=1)
    return squared if p == 2 else squared ** (p / 2)


def costs_at(x: np.ndarray, y: np.ndarray, p: float, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """`pair_costs` of the pairs ``(x[rows[k]], y[columns[k]])``, in blocks that stay small."""
    step = max(1, BLOCK_ENTRIES // x.shape[1])
    starts = range(0, len(rows), step)
    parts = [pair_costs(x[rows[s : s + step]], y[columns[s : s + step]], p) for s in starts]
    return np.concatenate(parts) if parts else np.empty(0)


def cost_blocks(x: np.ndarray, y: np.ndarray, p: float) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of rows of the cost matrix ``||x_i - y_j||^p`` in float64: (first row, block).

    The relative error of every squared distance stays below `SCREEN_ERROR`: the expansion about the mean is off by at
    most ``4 (d + 8)`` roundings of the two squared norms, and entries too small to bear that are computed again.
    """
    mean = y.mean(axis=0)
    centred = y - mean
    y_norms = np.einsum("jd,jd->j", centred, centred)
    rows = max(1, BLOCK_ENTRIES // len(y))
    near_share = 4 * (x.shape[1] + 8) * UNIT_ROUNDOFF / SCREEN_ERROR
    for start in range(0, len(x), rows):
        part = x[start : start + rows] - mean
        norms = np.einsum("id,id->i", part, part)
        block = part @ centred.T
        block *= -2
        block += norms[:, None]
        block += y_norms
        near_rows, near_columns = np.nonzero(block <= near_share * (norms[:, None] + y_norms))
        block[near_rows, near_columns] = costs_at(x, y, 2, near_rows + start, near_columns)
        yield start, (block if p == 2 else block ** (p / 2))


def row_minima(x: np.ndarray, y: np.ndarray, p: float, potentials: np.ndarray) -> np.ndarray:
    """A lower bound of ``min_j ||x_i - y_j||^p - potentials[j]`` for each row i: float64 ``[n]``, rounding counted.

    Entries of `cost_blocks` that may be a row's least are computed again by `pair_costs`; the others cannot be.
    """
    rounding = cost_rounding(x.shape[1], p)
    minima = np.full(len(x), np.inf)
    for start, block in cost_blocks(x, y, p):
        slack = rounding.screen * block + rounding.floor + 4 * UNIT_ROUNDOFF * (block + np.abs(potentials))
        block -= potentials
        least = (block + slack).min(axis=1)
        rows, columns = np.nonzero(block - slack <= least[:, None])
        rows += start
        costs = costs_at(x, y, p, rows, columns)
        reduced = costs - potentials[columns]
        reduced -= rounding.of(costs) + UNIT_ROUNDOFF * np.abs(reduced)
        np.minimum.at(minima, rows, reduced)
    return minima
