"""Where the similarity criterion's features come from: arrays that were given, or an extractor that is run."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from memfast.auditing.examine import Similar
from memfast.auditing.extracting import open_features
from memfast.auditing.inputs import Inputs
from memfast.auditing.near import count_different, nearest_others
from memfast.data import Source
from memfast.foundation.errors import InputError
from memfast.neighbors.duplicates import DuplicateGroups

BATCH = 256


def similarity_search(
    features: Any,
    inputs: Inputs,
    kept: np.ndarray,
    *,
    search: dict[str, Any],
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
        inputs: the sets of the audit.
        kept: which items of the training set are compared with: those without their duplicates.
        search: options handed to `memfast.knn`.
        checkpoint: folder for the progress of the searches.
        extraction: options of `memfast.features.extract`.
        groups: of near-duplicates among those items; an item's own group is left out of its search.
        progress: show progress.
    """
    if features is None:
        return None, None
    if isinstance(features, Mapping):
        given = {name: np.asarray(value) for name, value in features.items() if value is not None}
        _check_given(given)
        known = given["training"]
        _check_shape("training", known, len(inputs.training), known.shape[1])
        searcher = _searcher(
            known[kept],
            lambda _, stage: given.get("test" if stage == "held-out" else stage),
            search,
            checkpoint,
            groups,
        )
        return searcher, {"name": "arrays that were given", "width": known.shape[1]}
    extract, description = _opened(features, inputs, extraction, progress)
    known = _finite("training", extract(inputs.training))
    searcher = _searcher(
        known[kept], lambda samples, stage: _finite(stage, extract(samples)), search, checkpoint, groups
    )
    return searcher, {**description, "width": known.shape[1]}


def _opened(
    features: Any, inputs: Inputs, extraction: Mapping[str, Any] | None, progress: bool
) -> tuple[Callable[[Source], np.ndarray], dict[str, Any]]:
    import torch

    from memfast.features import Extractor

    if isinstance(features, str | os.PathLike | torch.nn.Module | Extractor):
        return open_features(
            features,
            images=inputs.kind == "images",
            value_range=(inputs.low, inputs.low + inputs.unit) if inputs.training.dtype != np.uint8 else None,
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


def _searcher(
    training: np.ndarray,
    of_samples: Callable[[Source, str], np.ndarray | None],
    search: dict[str, Any],
    checkpoint: Path | None,
    groups: DuplicateGroups | None,
) -> Similar:
    different = count_different(training, groups)

    def similar(samples: Source, stage: str, own: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
        from memfast.neighbors import knn

        rows = training[own] if own is not None else of_samples(samples, stage)
        if rows is None or different <= (own is not None):
            return None
        _check_shape(stage, rows, len(samples), training.shape[1])

        def nearest(some: np.ndarray | None, width: int) -> tuple[np.ndarray, np.ndarray]:
            name = f"{stage}-similar" + ("" if some is None else f"-{width}-{some[0]}")
            options = {**search, "checkpoint": None if checkpoint is None else checkpoint / name}
            found = knn(rows if some is None else rows[some], training, width, metric="cosine", **options)
            return np.asarray(found.similarities), np.asarray(found.indices)

        exclude = np.empty((len(rows), 0), np.int64) if own is None else own[:, None]
        similarities, indices = nearest_others(nearest, len(training), groups, exclude, 1)
        return similarities[:, 0], indices[:, 0]

    return similar


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
