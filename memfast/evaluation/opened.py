"""The sets of an evaluation, opened: their features, the searches among them, labels and class probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from memfast.data import Source, open_sources
from memfast.evaluation.config import EvaluationConfig
from memfast.features.sets import PLAIN, kind_of, open_features
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_labels, as_matrix, require_width
from memfast.metrics.base import MetricInputs
from memfast.metrics.inception_score import as_probabilities
from memfast.metrics.shared_neighbors import SharedNeighbors


@dataclass(frozen=True)
class OpenedEvaluation:
    """What the metrics work on.

    Attributes:
        inputs: features and searches, as metrics receive them.
        labels: int64 ``[generated]``, or None.
        shapes: set name -> shape of its features.
    """

    inputs: MetricInputs
    labels: np.ndarray | None
    shapes: dict[str, tuple[int, ...]]


def open_evaluation(
    config: EvaluationConfig,
    sets: Mapping[str, Any],
    *,
    labels: Any = None,
    class_probabilities: Any = None,
    neighbors: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> OpenedEvaluation:
    """Open the sets, extract their features, and check what belongs to them.

    Args:
        config: the settings.
        sets: ``generated``, ``training`` and maybe ``test`` -> anything `memfast.data.open_source` reads.
        labels: as for `memfast.evaluate`.
        class_probabilities: as for `memfast.evaluate`.
        neighbors: as for `memfast.evaluate`.

    Raises:
        InputError: sets of another shape, features that are not finite, labels or probabilities of another length.
    """
    sources = open_sources(**sets)
    rows = _features(sources, config)
    integer = rows["training"].dtype == np.uint8
    shared = SharedNeighbors(dict(rows), unit=1 / 255 if integer else 1.0, **config.search)
    if _is_plain(config.features):
        for name, found in (neighbors or {}).items():
            shared.add(name, "training", *found)
    floats = {name: _as_floats(part) for name, part in rows.items()}
    pixels = isinstance(config.features, str) and config.features == "pixels"
    inputs = MetricInputs(
        floats["generated"], floats["training"], floats.get("test"), shared, config.seed,
        _probabilities(class_probabilities, rows), sources["training"].item_shape if pixels else None,
    )  # fmt: skip
    classes = None if labels is None else as_labels("labels", labels, len(rows["generated"]))
    return OpenedEvaluation(inputs, classes, {name: part.shape for name, part in rows.items()})


def _features(sources: Mapping[str, Source], config: EvaluationConfig) -> dict[str, np.ndarray]:
    """Features of each set: uint8 rows where they are pixels, floats otherwise."""
    shapes = {source.item_shape for source in sources.values()}
    if len(shapes) > 1:
        described = ", ".join(f"{name} {source.item_shape}" for name, source in sources.items())
        raise InputError("sets", expected="items of one shape", received=described)
    dtypes = {name: np.dtype(source.dtype) for name, source in sources.items()}
    if _is_plain(config.features) and len({dtype == np.uint8 for dtype in dtypes.values()}) > 1:
        raise InputError(
            "sets", expected="uint8 values in every set, or floats in every set",
            received=", ".join(f"{name} {dtype}" for name, dtype in dtypes.items()),
            do="Convert them to one dtype and one range of values.",
        )  # fmt: skip
    images = kind_of(sources["training"].item_shape) == "images"
    run, _ = open_features(config.features, images=images, extraction=dict(config.extraction), progress=config.progress)
    rows = {name: run(source) for name, source in sources.items()}
    integer = all(part.dtype == np.uint8 for part in rows.values()) and config.features == "pixels"
    checked = {name: part if integer else as_matrix(name, part, dtype=None) for name, part in rows.items()}
    for name, part in checked.items():
        require_width(name, part, checked["training"].shape[1], "training")
    return checked


def _probabilities(given: Any, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if given is None:
        return {}
    by_name = given if isinstance(given, Mapping) else {"generated": given}
    unknown = sorted(set(by_name) - set(rows))
    if unknown:
        raise InputError("class_probabilities", expected=f"some of {', '.join(rows)}", received=", ".join(unknown))
    return {
        name: as_probabilities(f"class_probabilities of {name}", values, count=len(rows[name]))
        for name, values in by_name.items()
    }


def _is_plain(features: Any) -> bool:
    return isinstance(features, str) and features in PLAIN


def _as_floats(rows: np.ndarray) -> np.ndarray:
    return rows / 255.0 if rows.dtype == np.uint8 else rows.astype(np.float64, copy=False)
