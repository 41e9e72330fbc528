"""The search: for each sample its nearest training items, and everything else that criteria read."""

from collections.abc import Callable, Sized
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from memfast.auditing.opened import as_images
from memfast.criteria import Evidence, worst_tile, worst_tiles
from memfast.criteria.base import SMALLEST_SIDE
from memfast.data import ArraySource, Source
from memfast.data.subset import Subset
from memfast.foundation.errors import InputError
from memfast.neighbors.duplicates import DuplicateGroups
from memfast.neighbors.result import Recall

TILE_ROWS = 256
TILE_BYTES = 1 << 28
# Neighbours that are looked at beyond the wanted ones before a search is made wider, and how many a wide one holds.
SPARE, WIDE = 16, 1 << 21
# (rows, width) -> the ``width`` nearest of some samples, of all for None: distances or similarities, and indices.
Search = Callable[[np.ndarray | None, int], tuple[np.ndarray, np.ndarray]]
Similar = Callable[[Source, str, np.ndarray | None], tuple[np.ndarray, np.ndarray] | None]


class TrainingSearch:
    """Knows the training set and how to search it; turns a set of samples into `Evidence`.

    Args:
        training: the training set without exact duplicates.
        neighbours: how many nearest items to know per sample.
        kind: "images", "signals" or "values".
        unit: raw units in one [0, 1] unit.
        search: options handed to `memfast.knn` as they are.
        checkpoint: folder for the progress of long searches; a killed audit goes on from there.
        gaps: whether to find the neighbours' own neighbours.
        tiles: tiles a side of worst-tile distances, where the images are large enough; 0 for none.
        similar: gives (similarity, index) of the most similar training item, or None where there are no features.
        groups: near-duplicates: of each group only the member nearest to a sample counts as its neighbour. None: every
            item counts.

    Attributes:
        exactness: of the searches so far: "exact", "certified" or "approximate".
        recall: of an approximate search, as measured; None otherwise.
        completed: stage -> samples that an approximate index gave fewer than k neighbours and that were searched
            exactly instead.
    """

    def __init__(
        self,
        training: Source,
        neighbours: int,
        *,
        kind: str,
        unit: float,
        search: dict[str, Any] | None = None,
        checkpoint: Path | None = None,
        gaps: bool = True,
        tiles: int = 0,
        similar: Similar | None = None,
        groups: DuplicateGroups | None = None,
    ) -> None:
        self.training, self.neighbours, self.kind, self.unit = training, neighbours, kind, unit
        self.search, self.checkpoint, self.gaps, self.similar = dict(search or {}), checkpoint, gaps, similar
        self.groups = groups
        self.tiles = tiles if kind == "images" and self._smallest_side() >= SMALLEST_SIDE else 0
        self.exactness = "exact"
        self.recall: Recall | None = None
        self.completed: dict[str, int] = {}

    def evidence(self, samples: Source, stage: str, *, own: np.ndarray | None = None) -> Evidence:
        """Everything the criteria may read about ``samples``.

        Args:
            samples: the samples.
            stage: a name for the progress bar and the checkpoint.
            own: int64 ``[n]``, where the samples ARE training items: which ones; each is left out of its own search.
        """
        squared, indices = self._nearest(samples, stage, self.neighbours, own)
        similarity = self.similar(samples, stage, own) if self.similar is not None else None
        return Evidence(
            squared,
            indices,
            values=int(np.prod(samples.item_shape, dtype=np.int64)),
            unit=self.unit,
            neighbour_gaps=self._gaps(indices[:, 0], stage, own) if self.gaps else None,
            tile_distances=self._tiles(samples, indices) if self.tiles else None,
            similarities=None if similarity is None else similarity[0],
            similar_indices=None if similarity is None else similarity[1],
        )

    def outline(self) -> Evidence:
        """Evidence of one sample with the fields that `evidence` will have, all zero: it tells which criteria apply."""
        one = np.zeros(1)
        return Evidence(
            np.zeros((1, self.neighbours)),
            np.zeros((1, self.neighbours), np.int64),
            values=int(np.prod(self.training.item_shape, dtype=np.int64)),
            unit=self.unit,
            neighbour_gaps=one if self.gaps and self.different > 1 else None,
            tile_distances=np.zeros((1, self.neighbours)) if self.tiles else None,
            similarities=None if self.similar is None else one,
            similar_indices=None if self.similar is None else np.zeros(1, np.int64),
        )

    @property
    def different(self) -> int:
        """How many training items there are, near-duplicates counted once."""
        return count_different(self.training, self.groups)

    def _nearest(self, samples: Source, stage: str, k: int, own: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Squared distances and indices of the k nearest, each sample's own training item left out."""
        wanted = min(k, self.different - (own is not None))
        if wanted < 1:
            raise InputError("training", expected="another training item to compare with", received="only one")
        return self._others(
            samples, stage, wanted, np.empty((len(samples), 0), np.int64) if own is None else own[:, None]
        )

    def _gaps(self, nearest: np.ndarray, stage: str, own: np.ndarray | None) -> np.ndarray | None:
        """Squared distance from each nearest training item to its own nearest, itself and the sample left out."""
        if self.different <= 1 + (own is not None):
            return None
        if own is None:
            unique, where = np.unique(nearest, return_inverse=True)
            return self._others(Subset(self.training, unique), f"{stage}-gaps", 1, unique[:, None])[0][where, 0]
        exclude = np.stack([nearest, own], axis=1)
        return self._others(Subset(self.training, nearest), f"{stage}-gaps", 1, exclude)[0][:, 0]

    def _others(self, samples: Source, stage: str, k: int, exclude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest training items that count, without those in ``exclude``, ``[n, e]``, and what equals them."""

        def search(rows: np.ndarray | None, width: int) -> tuple[np.ndarray, np.ndarray]:
            if rows is None:
                return self._knn(samples, stage, width)
            return self._knn(Subset(samples, rows), f"{stage}-{width}-{rows[0]}", width)

        return nearest_others(search, len(self.training), self.groups, exclude, k)

    def _tiles(self, samples: Source, indices: np.ndarray) -> np.ndarray:
        """Worst-tile distance of every sample to each of its neighbours, from the pixels themselves."""
        distances = np.empty(indices.shape, np.float64)
        neighbourhood = indices.shape[1] * int(np.prod(samples.item_shape, dtype=np.int64)) * samples.dtype.itemsize
        step = min(TILE_ROWS, max(1, TILE_BYTES // neighbourhood))
        for start in range(0, len(indices), step):
            group = indices[start : start + step]
            images = as_images(samples.block(start, start + len(group)))
            unique, where = np.unique(group, return_inverse=True)
            training, where = as_images(self.training.take(unique)), where.reshape(group.shape)
            found = worst_tiles(images, training, where, unit=self.unit, tiles=self.tiles)
            if images.dtype != np.uint8:
                rows, best = np.arange(len(group)), found.argmin(axis=1)
                closest = training[where[rows, best]]
                found[rows, best] = worst_tile(images, closest, unit=self.unit, tiles=self.tiles)
            distances[start : start + len(group)] = found
        return distances

    def _knn(self, samples: Source, stage: str, k: int) -> tuple[np.ndarray, np.ndarray]:
        from memfast.neighbors import knn

        options = dict(self.search)
        if self.checkpoint is not None:
            options["checkpoint"] = self.checkpoint / stage
        found = knn(samples, self.training, k, **options)
        if found.exactness == "approximate" or self.exactness == "exact":
            self.exactness = found.exactness
        if found.recall is not None and self.recall is None:
            self.recall = found.recall
        squared, indices = np.asarray(found.squared_distances), np.asarray(found.indices)
        short = np.flatnonzero((indices < 0).any(axis=1))
        if len(short):
            # A missing neighbour is not a far one: means and ratios over it would call everything a copy.
            exact = {name: value for name, value in self.search.items() if name != "approximate"}
            rows = ArraySource(samples.take(short), name=samples.name)
            again = knn(rows, self.training, k, **exact, distributed=False)
            squared[short], indices[short] = np.asarray(again.squared_distances), np.asarray(again.indices)
            self.completed[stage] = len(short)
        return squared, indices

    def _smallest_side(self) -> int:
        shape = self.training.item_shape
        sides = shape if len(shape) == 2 else sorted(shape)[1:]
        return min(sides) if len(sides) >= 2 else 0


def joined(parts: list[Evidence]) -> Evidence:
    """The evidence of several sets of samples as that of one."""
    if len(parts) == 1:
        return parts[0]
    arrays: dict[str, Any] = {}
    for name in (field.name for field in fields(Evidence)):
        values = [getattr(part, name) for part in parts]
        arrays[name] = np.concatenate(values) if isinstance(values[0], np.ndarray) else values[0]
    return Evidence(**arrays)


def count_different(items: Sized, groups: DuplicateGroups | None) -> int:
    """How many items there are, near-duplicates counted once."""
    return len(items) if groups is None else int(groups.keep.sum())


def nearest_others(
    search: Search, items: int, groups: DuplicateGroups | None, exclude: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest items of each sample that count: distances (or similarities) and indices ``[n, k]``.

    With groups, of each group the member nearest to the sample. Samples whose neighbours lie in too few groups are
    searched again for twice as many, a bounded number at a time; all items hold enough.

    Args:
        search: see ``Search``.
        items: how many items there are.
        groups: the items' groups, or None where every item counts.
        exclude: ``[n, e]`` items that are left out of each row, with their groups.
        k: at most the number of items that count, less ``e``.
    """
    wanted = k + exclude.shape[1]
    if groups is None or wanted == 1:
        found, indices = search(None, wanted)
        return drop(found, indices, exclude, k) if exclude.shape[1] else (found, indices)
    group = groups.representative
    width = min(items, wanted + SPARE)
    found, indices, enough = one_per_group(*search(None, width), group, exclude, k)
    while len(rows := np.flatnonzero(~enough)):
        width = min(items, 2 * width)
        for some in np.split(rows, range(max(1, WIDE // width), len(rows), max(1, WIDE // width))):
            found[some], indices[some], enough[some] = one_per_group(*search(some, width), group, exclude[some], k)
    return found, indices


def one_per_group(
    squared: np.ndarray, indices: np.ndarray, groups: np.ndarray, exclude: np.ndarray, keep: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of lists of neighbours, the nearest member of each group, and the first ``keep`` of these.

    Args:
        squared: ``[n, k]``, ascending.
        indices: ``[n, k]``.
        groups: int64, the group of every item.
        exclude: ``[n, e]`` items whose groups are left out of each row.
        keep: how many columns stay.

    Returns:
        Squared distances and indices ``[n, keep]``, and bool ``[n]``: where a row has so many groups. Other rows hold
        anything.

    >>> groups = np.array([0, 0, 1, 2])
    >>> one_per_group(np.array([[1, 2, 3, 9]]), np.array([[1, 0, 3, 2]]), groups, np.empty((1, 0), int), 2)
    (array([[1, 3]]), array([[1, 3]]), array([ True]))
    """
    of = groups[indices]
    order = np.argsort(of, axis=1, kind="stable")
    ordered = np.take_along_axis(of, order, axis=1)
    first = np.empty(of.shape, bool)
    np.put_along_axis(first, order, np.diff(ordered, axis=1, prepend=-1) != 0, axis=1)
    first &= (of[:, :, None] != groups[exclude][:, None, :]).all(axis=2)
    chosen = np.argsort(~first, axis=1, kind="stable")[:, :keep]
    return (
        np.take_along_axis(squared, chosen, axis=1),
        np.take_along_axis(indices, chosen, axis=1),
        first.sum(axis=1) >= keep,
    )


def drop(squared: np.ndarray, indices: np.ndarray, exclude: np.ndarray, keep: int) -> tuple[np.ndarray, np.ndarray]:
    """Leave some items out of lists of neighbours and keep the first ``keep`` of the rest.

    Args:
        squared: ``[n, k]``.
        indices: ``[n, k]``.
        exclude: ``[n, e]`` items to leave out of each row.
        keep: how many columns stay, at most ``k - e``.

    >>> drop(np.array([[0, 4, 9]]), np.array([[7, 2, 5]]), np.array([[7]]), 2)
    (array([[4, 9]]), array([[2, 5]]))
    """
    stays = (indices[:, :, None] != exclude[:, None, :]).all(axis=2)
    order = np.argsort(~stays, axis=1, kind="stable")[:, :keep]
    return np.take_along_axis(squared, order, axis=1), np.take_along_axis(indices, order, axis=1)
