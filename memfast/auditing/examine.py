"""Gathers the evidence that criteria read: neighbours, the neighbours' own neighbours, tiles, similarities."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from memfast.auditing.inputs import as_images
from memfast.auditing.near import count_different, nearest_others
from memfast.criteria import Evidence, worst_tile, worst_tiles
from memfast.criteria.base import SMALLEST_SIDE
from memfast.data import ArraySource, Source
from memfast.data.subset import Subset
from memfast.foundation.errors import InputError
from memfast.neighbors.duplicates import DuplicateGroups

TILE_ROWS = 256
TILE_BYTES = 1 << 28
Similar = Callable[[Source, str, np.ndarray | None], tuple[np.ndarray, np.ndarray] | None]


class Examiner:
    """Knows the training set and how to search it; turns a set of samples into `Evidence`.

    Args:
        training: the training set without exact duplicates.
        neighbours: how many nearest items to know per sample.
        kind: "images", "signals" or "values".
        unit: raw units in one [0, 1] unit.
        search: options handed to `memfast.knn` as they are.
        checkpoint: folder for the progress of long searches; a killed audit goes on from there.
        gaps: whether to find the neighbours' own neighbours (`authenticity` needs them).
        tiles: whether to compute worst tiles, where the images are large enough; 0 for no, else tiles a side.
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
        self.recall: dict[str, Any] | None = None
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
            self.recall = dict(vars(found.recall))
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
