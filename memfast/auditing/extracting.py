"""Features of the sets: pixels, items as they are, or what an extractor makes of them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from memfast.auditing.inputs import ChannelsLast
from memfast.data import Source

PLAIN = ("pixels", "given")
Extract = Callable[[Source], np.ndarray]


def open_features(
    features: Any,
    *,
    images: bool,
    value_range: tuple[float, float] | None = None,
    extraction: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> tuple[Extract, dict[str, Any]]:
    """A function that gives a set's features ``[N, D]``, and what the features are, as plain values.

    Args:
        features: ``pixels``, ``given``, or what `memfast.features.open_extractor` takes.
        images: whether items are images; for others the preprocessing leaves items as they are.
        value_range: the float values that mean 0 and 1; None leaves the preprocessing's own.
        extraction: options of `memfast.features.extract` and `memfast.features.open_extractor`.
        progress: show progress.

    Raises:
        InputError: nothing that can be opened.
        MissingPackageError: a named extractor's package is not installed.
    """
    if isinstance(features, str) and features in PLAIN:
        return _values, {"name": features}
    from memfast.features import Extractor, Preprocessing, open_extractor

    options = dict(extraction or {})
    opening = {name: options.pop(name) for name in ("preprocessing", "device", "dtype", "identity") if name in options}
    if not images and not isinstance(features, Extractor):
        opening.setdefault("preprocessing", Preprocessing(images=False))
    opened = open_extractor(features, **opening)
    if value_range is not None and opened is not features and "preprocessing" not in opening:
        opened.preprocessing = replace(opened.preprocessing, value_range=value_range)

    def run(source: Source) -> np.ndarray:
        return _on_every_rank(ChannelsLast.where_needed(source) if images else source, opened, options, progress)

    return run, opened.describe()


def _on_every_rank(source: Source, opened: Any, options: dict[str, Any], progress: bool) -> np.ndarray:
    """Rank 0 extracts; the others then find the same bits in the cache."""
    from memfast.features import extract
    from memfast.runtime.distributed import Ranks

    ranks = Ranks.current()
    for turn in (True, False) if ranks.size > 1 else (True,):
        with ranks.fail_together():
            if (ranks.rank == 0) == turn:
                found = extract(source, opened, progress=progress and ranks.rank == 0, **options).values
    return found


def _values(source: Source) -> np.ndarray:
    return source.block(0, len(source)).reshape(len(source), -1)
