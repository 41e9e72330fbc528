"""Similarity of features: arrays that were given, or what an extractor makes of the sets, and the search among them."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from memfast.auditing.opened import OpenedAudit, OpenedSets
from memfast.auditing.search import Similar, count_different, nearest_others
from memfast.data import Source
from memfast.features.sets import open_features
from memfast.foundation.errors import InputError
from memfast.neighbors.duplicates import DuplicateGroups

BATCH = 256

# (samples, stage) -> their features ``[n, d]``, or None where there are none.
OfSamples = Callable[[Source, str], np.ndarray | None]


def similarity_search(
    features: Any,
    opened: OpenedAudit,
    *,
    search: Mapping[str, Any],
    checkpoint: Path | None = None,
    extraction: Mapping[str, Any] | None = None,
    groups: DuplicateGroups | None = None,
    progress: bool = False,
) -> tuple[Similar | None, dict[str, Any] | None]:
    """A function that gives (similarity, index) of the most similar training item of each sample, and what it uses.

    Args:
        features: None; a mapping with the arrays "generated" ``[n, d]``, "training" ``[N, d]`` and maybe "test"; a
            function that turns a block of items into an array or tensor ``[B, d]``; or "pixels", "given" or whatever
            `memfast.features.open_extractor` takes.
        opened: the sets of the audit.
        search: options handed to `memfast.knn`.
        checkpoint: folder for the progress of the searches.
        extraction: options of `memfast.features.extract`.
        groups: of near-duplicates among the different training items; an item's own group is left out of its search.
        progress: show progress.
    """
    if features is None:
        return None, None
    if isinstance(features, Mapping):
        given = {name: np.asarray(value) for name, value in features.items() if value is not None}
        _check_given(given)
        known, description = given["training"], {"name": "arrays that were given"}
        _check_shape("training", known, len(opened.sets.training), known.shape[1])

        def of_samples(samples: Source, stage: str) -> np.ndarray | None:
            return given.get("test" if stage == "held-out" else stage)
    else:
        extract, description = _opened(features, opened.sets, extraction, progress)
        known = _finite("training", extract(opened.sets.training))

        def of_samples(samples: Source, stage: str) -> np.ndarray | None:
            return _finite(stage, extract(samples))

    searcher = _SimilaritySearch(known[opened.kept], of_samples, search, checkpoint, groups)
    return searcher, {**description, "width": known.shape[1]}


@dataclass(frozen=True)
class _SimilaritySearch:
    """The most similar training item of each sample.

    A row of zeros (a black image's pixels) has no direction: no sample is similar to it, and such a sample's
    similarity is NaN.

    Attributes:
        training: features of the different training items ``[N, d]``.
        of_samples: gives the features of samples.
        search: options handed to `memfast.knn`.
        checkpoint: folder for the progress of the searches.
        groups: of near-duplicates among the items.
        directed: int64, the training items whose features are not all zero.
    """

    training: np.ndarray
    of_samples: OfSamples
    search: Mapping[str, Any]
    checkpoint: Path | None
    groups: DuplicateGroups | None
    directed: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        directed = np.flatnonzero(self.training.any(axis=1))
        if len(directed) < len(self.training):
            object.__setattr__(self, "groups", _groups_among(self.groups, directed))
        object.__setattr__(self, "directed", directed)

    def __call__(self, samples: Source, stage: str, own: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
        rows = self.training[own] if own is not None else self.of_samples(samples, stage)
        if rows is None:
            return None
        _check_shape(stage, rows, len(samples), self.training.shape[1])
        whole = len(self.directed) == len(self.training)
        database = self.training if whole else self.training[self.directed]
        if count_different(database, self.groups) <= (own is not None):
            return None if whole else (np.full(len(rows), np.nan), np.zeros(len(rows), np.int64))
        judged = rows.any(axis=1)
        if whole and judged.all():
            return self._most_similar(database, rows, stage, own)
        similarities, indices = np.full(len(rows), np.nan), np.zeros(len(rows), np.int64)
        if judged.any():
            places = None if own is None else np.searchsorted(self.directed, own[judged])
            similarities[judged], found = self._most_similar(database, rows[judged], stage, places)
            indices[judged] = self.directed[found]
        return similarities, indices

    def _most_similar(
        self, database: np.ndarray, rows: np.ndarray, stage: str, own: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        from memfast.neighbors import knn

        def nearest(some: np.ndarray | None, width: int) -> tuple[np.ndarray, np.ndarray]:
            name = f"{stage}-similar" + ("" if some is None else f"-{width}-{some[0]}")
            options = {**self.search, "checkpoint": None if self.checkpoint is None else self.checkpoint / name}
            found = knn(rows if some is None else rows[some], database, width, metric="cosine", **options)
            return np.asarray(found.similarities), np.asarray(found.indices)

        exclude = np.empty((len(rows), 0), np.int64) if own is None else own[:, None]
        similarities, indices = nearest_others(nearest, len(database), self.groups, exclude, 1)
        return similarities[:, 0], indices[:, 0]


def _groups_among(groups: DuplicateGroups | None, items: np.ndarray) -> DuplicateGroups | None:
    if groups is None:
        return None
    _, first, group = np.unique(groups.representative[items], return_index=True, return_inverse=True)
    return DuplicateGroups(first[group.reshape(-1)].astype(np.int64))


def _opened(
    features: Any, sets: OpenedSets, extraction: Mapping[str, Any] | None, progress: bool
) -> tuple[Callable[[Source], np.ndarray], dict[str, Any]]:
    import torch

    from memfast.features import Extractor

    if isinstance(features, str | os.PathLike | torch.nn.Module | Extractor):
        low, unit = sets.units.low, sets.units.unit
        return open_features(
            features,
            images=sets.kind == "images",
            value_range=(low, low + unit) if sets.training.dtype != np.uint8 else None,
            extraction=extraction,
            progress=progress,
        )
    if callable(features):
        name = getattr(features, "__qualname__", type(features).__qualname__)
        return lambda source: _blockwise(features, source), {"name": f"the function {name}"}
    raise InputError(
        "features",
        expected="a mapping of arrays, pixels, given, a torch module, a model file, a name or a function of a block",
        received=type(features).__name__,
    )


def _blockwise(extractor: Callable[[np.ndarray], Any], source: Source) -> np.ndarray:
    batches = []
    for start in range(0, len(source), BATCH):
        rows = extractor(source.block(start, min(start + BATCH, len(source))))
        rows = rows.detach().float().cpu().numpy() if hasattr(rows, "detach") else np.asarray(rows)
        batches.append(rows.reshape(len(rows), -1))
    return np.concatenate(batches)


def _finite(stage: str, rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32) if rows.dtype == np.uint8 else rows
    if not np.isfinite(rows).all():
        worst = int(np.argmin(np.isfinite(rows).all(axis=1)))
        raise InputError(f"features of {stage}, item {worst}", expected="finite values", received="NaN or an infinity")
    return rows


def _check_shape(stage: str, rows: np.ndarray, count: int, width: int) -> None:
    if rows.shape != (count, width):
        raise InputError(
            f"features of {stage}", expected=f"an array [{count}, {width}]", received=f"shape {list(rows.shape)}"
        )


def _check_given(given: Mapping[str, np.ndarray]) -> None:
    for name in ("generated", "training"):
        if name not in given:
            raise InputError("features", expected="arrays named generated and training", received=", ".join(given))
    for name, rows in given.items():
        if rows.ndim != 2 or not np.isfinite(rows).all():
            have = f"shape {list(rows.shape)}" + ("" if np.isfinite(rows).all() else " with NaN or infinity")
            raise InputError(f"features of {name}", expected="finite values [N, d]", received=have)
