"""Features of whole sets: pixels, items as they are, or what an extractor makes of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from memfast.data import Source

PLAIN = ("pixels", "given")
CHANNELS = (1, 3, 4)
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
    from memfast.features.extractor import Extractor
    from memfast.features.opening import open_extractor
    from memfast.features.preprocessing import Preprocessing

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


def kind_of(item_shape: tuple[int, ...]) -> str:
    """What items of this shape are: "images" (height and width, maybe channels), "signals" (one axis) or "values"."""
    if len(item_shape) == 1 or (len(item_shape) == 2 and item_shape[0] == 1):
        return "signals"
    if len(item_shape) == 2 or (len(item_shape) == 3 and (item_shape[-1] in CHANNELS or item_shape[0] in CHANNELS)):
        return "images"
    return "values"


class ChannelsLast:
    """A source of images with the channels moved to the end.

    Args:
        source: items ``[C, H, W]``.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        channels, height, width = source.item_shape
        self.item_shape: tuple[int, ...] = (height, width, channels)
        self.name, self.dtype = source.name, source.dtype
        self.labels, self.skipped = source.labels, source.skipped
        self.not_read = getattr(source, "not_read", ())

    @classmethod
    def where_needed(cls, source: Source) -> Source:
        """``source`` itself where its channels are last already."""
        return cls(source) if len(source.item_shape) == 3 and source.item_shape[-1] not in CHANNELS else source

    def __len__(self) -> int:
        return len(self.source)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Items ``start`` to ``stop``."""
        return np.moveaxis(self.source.block(start, stop), 1, -1)

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The items of these indices, in this order."""
        return np.moveaxis(self.source.take(indices), 1, -1)

    def item_name(self, index: int) -> str:
        """The item's name."""
        return self.source.item_name(index)

    def content_hash(self) -> str:
        """The source's hash, marked as moved."""
        return f"{self.source.content_hash()}-channels-last"


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
