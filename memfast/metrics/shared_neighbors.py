"""Nearest neighbours between named sets, searched once and shared by every metric that asks."""

from typing import Any

import numpy as np

from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError


class SharedNeighbors:
    """Finds the nearest neighbours between sets and keeps them: a second metric pays nothing.

    Args:
        sets: name -> matrix ``[n, d]``; the usual names are ``generated``, ``training`` and ``test``.
        unit: distances are multiplied by it; 1/255 lets uint8 pixels be searched as integers and read in [0, 1].
        options: passed on to ``memfast.knn``.

    Searches run on the exact engine of ``memfast.knn``; no ``n x n`` matrix is ever held.
    """

    def __init__(self, sets: dict[str, np.ndarray], *, unit: float = 1.0, **options: Any) -> None:
        self.sets, self.unit, self.options = sets, unit, options
        self._found: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}

    def nearest(self, queries: str, database: str, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Squared distances float64 ``[n, k]``, ascending, and row numbers; within one set a row is its own neighbour.

        Raises:
            InputError: ``database`` has fewer than ``k`` rows.
        """
        whole_number("k", k, least=1, greatest=len(self.sets[database]), do=f"The set '{database}' has no more rows.")
        key = (queries, database)
        if key not in self._found or self._found[key][0].shape[1] < k:
            squared, indices = nearest(self.sets[queries], self.sets[database], k, **self.options)
            self._found[key] = squared * self.unit**2, indices
        squared, indices = self._found[key]
        return squared[:, :k], indices[:, :k]

    def add(self, queries: str, database: str, squared_distances: np.ndarray, indices: np.ndarray) -> None:
        """Take neighbours ``[n, k]`` of an exact search made elsewhere, squared distances in the sets' units.

        Raises:
            InputError: another number of rows than the set ``queries`` has.
        """
        rows = len(self.sets[queries])
        if len(squared_distances) != rows or squared_distances.shape != indices.shape:
            raise InputError(
                f"neighbours of {queries}",
                expected=f"squared distances and indices [{rows}, k]",
                received=f"{list(squared_distances.shape)} and {list(indices.shape)}",
            )
        self._found[queries, database] = squared_distances.astype(np.float64) * self.unit**2, indices

    def radii(self, name: str, k: int) -> np.ndarray:
        """Squared distance of every row of ``name`` to its k-th neighbour other than itself, float64 ``[n]``."""
        return self.nearest(name, name, k + 1)[0][:, k]

    def renamed(self, names: dict[str, str]) -> "SharedNeighbors":
        """The same with sets under other names (old -> new); a set that stood there is left out."""
        sets = {name: rows for name, rows in self.sets.items() if name not in (*names, *names.values())}
        other = SharedNeighbors(sets | {names[old]: self.sets[old] for old in names}, unit=self.unit, **self.options)
        other._found = {
            (names.get(queries, queries), names.get(database, database)): found
            for (queries, database), found in self._found.items()
            if {queries, database}.isdisjoint(names.values())
        }
        return other


def nearest(queries: np.ndarray, database: np.ndarray, k: int, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows of ``database``: squared distances float64 ``[n, k]`` and row numbers int64 ``[n, k]``."""
    from memfast.neighbors import knn

    found = knn(queries, database, k, **options)
    return np.asarray(found.squared_distances, dtype=np.float64), np.asarray(found.indices, dtype=np.int64)
