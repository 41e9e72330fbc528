"""k-means cells: seeded, so that a metric built on them repeats."""

from typing import NamedTuple

import numpy as np

from memfast.foundation.arguments import whole_number

ITERATIONS = 300


class Cells(NamedTuple):
    """Cell centres ``[cells, d]`` and the sum of squared distances to them."""

    centres: np.ndarray
    inertia: float

    def assign(self, rows: np.ndarray) -> np.ndarray:
        """The nearest centre of each row, int64 ``[n]``."""
        return np.argmin(_squared(rows, self.centres), axis=1)


def k_means(rows: np.ndarray, cells: int, *, restarts: int = 10, seed: int = 0) -> Cells:
    """The best of several runs of Lloyd's algorithm from k-means++ starts.

    Args:
        rows: float64 ``[n, d]``, n >= cells.
        cells: how many.
        restarts: runs; the one with the least inertia is kept.
        seed: of the starts.
    """
    generator = np.random.default_rng(whole_number("seed", seed, least=0))
    return min((_lloyd(rows, _start(rows, cells, generator)) for _ in range(restarts)), key=lambda found: found.inertia)


def _start(rows: np.ndarray, cells: int, generator: np.random.Generator) -> np.ndarray:
    chosen = [int(generator.integers(len(rows)))]
    nearest = _squared(rows, rows[chosen])[:, 0]
    for _ in range(cells - 1):
        total = nearest.sum()
        chosen.append(int(generator.choice(len(rows), p=nearest / total if total > 0 else None)))
        nearest = np.minimum(nearest, _squared(rows, rows[chosen[-1:]])[:, 0])
    return rows[chosen].copy()


def _lloyd(rows: np.ndarray, centres: np.ndarray) -> Cells:
    before = None
    for _ in range(ITERATIONS):
        squared = _squared(rows, centres)
        labels = squared.argmin(axis=1)
        if before is not None and np.array_equal(labels, before):
            break
        before = labels
        counts = np.bincount(labels, minlength=len(centres))
        moved = np.zeros_like(centres)
        for cell in range(len(centres)):
            farthest = rows[squared.min(axis=1).argmax()]
            moved[cell] = rows[labels == cell].mean(axis=0) if counts[cell] else farthest
        centres = moved
    return Cells(centres, float(_squared(rows, centres).min(axis=1).sum()))


def _squared(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Squared distances, about the mean of the centres: a mean far from zero would cost their digits."""
    mean = centres.mean(axis=0)
    rows, centres = rows - mean, centres - mean
    return np.clip((rows * rows).sum(1)[:, None] + (centres * centres).sum(1) - 2 * rows @ centres.T, 0, None)
