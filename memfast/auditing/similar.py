"""Where the similarity criterion's features come from: arrays that were given, or an extractor that is called."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from memfast.auditing.examine import Similar
from memfast.data import Source
from memfast.foundation.errors import InputError

BATCH = 256


def similarity_search(features: Any, training: Source, kept: np.ndarray, search: dict[str, Any]) -> Similar | None:
    """A function that gives (similarity, index) of the most similar training item of each sample.

    Args:
        features: None; a mapping with the arrays "generated" ``[n, d]``, "training" ``[N, d]`` and maybe "test"; or a
            function that turns a block of items into an array or tensor ``[B, d]``.
        training: the training set without duplicates.
        kept: which items of the whole training set those are.
        search: options handed to `memfast.knn`.
    """
    if features is None:
        return None
    if isinstance(features, Mapping):
        given = {name: np.asarray(value) for name, value in features.items() if value is not None}
        _check_given(given)
        known = given["training"][kept]
        return _searcher(known, lambda samples, stage: given.get("test" if stage == "held-out" else stage), search)
    if callable(features):
        return _searcher(_extract(features, training), lambda samples, _: _extract(features, samples), search)
    raise InputError(
        "features", expected="a mapping of arrays, or a function of a block of items", received=type(features).__name__
    )


def _searcher(
    training: np.ndarray, of_samples: Callable[[Source, str], np.ndarray | None], search: dict[str, Any]
) -> Similar:
    def similar(samples: Source, stage: str, own: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
        from memfast.neighbors import knn

        rows = training[own] if own is not None else of_samples(samples, stage)
        if rows is None or len(training) <= (own is not None):
            return None
        if rows.shape != (len(samples), training.shape[1]):
            raise InputError(
                f"features of {stage}", expected=f"an array [{len(samples)}, {training.shape[1]}]",
                received=f"shape {list(rows.shape)}",
            )  # fmt: skip
        found = knn(rows, training, 1 + (own is not None), metric="cosine", **search)
        similarities, indices = np.asarray(found.similarities), np.asarray(found.indices)
        if own is not None:
            from memfast.auditing.examine import drop

            similarities, indices = drop(similarities, indices, own[:, None], 1)
        return similarities[:, 0], indices[:, 0]

    return similar


def _extract(extractor: Callable[[np.ndarray], Any], source: Source) -> np.ndarray:
    batches = []
    for start in range(0, len(source), BATCH):
        rows = extractor(source.block(start, min(start + BATCH, len(source))))
        rows = rows.detach().float().cpu().numpy() if hasattr(rows, "detach") else np.asarray(rows)
        batches.append(rows.reshape(len(rows), -1))
    return np.concatenate(batches)


def _check_given(given: Mapping[str, np.ndarray]) -> None:
    for name in ("generated", "training"):
        if name not in given:
            raise InputError("features", expected="arrays named generated and training", received=", ".join(given))
    for name, rows in given.items():
        if rows.ndim != 2 or not np.isfinite(rows).all():
            have = f"shape {list(rows.shape)}" + ("" if np.isfinite(rows).all() else " with NaN or infinity")
            raise InputError(f"features of {name}", expected="finite values [N, d]", received=have)
