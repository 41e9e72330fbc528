"""A source whose floats are brought to 0..1 when they are read."""

from collections.abc import Sequence

import numpy as np

from memfast.data.source import ArraySource, Source
from memfast.foundation.errors import InputError


class RescaledSource(ArraySource):
    """Floats of a source with ``low`` at 0 and ``high`` at 1.

    Args:
        source: of floats.
        value_range: (low, high).

    Attributes:
        original_range: what ``value_range`` was before: (low, high).
    """

    def __init__(self, source: Source, value_range: tuple[float, float]) -> None:
        super().__init__(source.block(0, 1), name=source.name, labels=source.labels, skipped=source.skipped)
        self.source, self.original_range, self.value_range = source, value_range, (0.0, 1.0)
        self.class_names, self.not_read = getattr(source, "class_names", None), getattr(source, "not_read", ())

    def __len__(self) -> int:
        return len(self.source)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Items ``start`` to ``stop``."""
        return self._rescaled(self.source.block(start, stop))

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The items of these indices, in this order."""
        return self._rescaled(self.source.take(indices))

    def item_name(self, index: int) -> str:
        """The item's name."""
        return self.source.item_name(index)

    def content_hash(self) -> str:
        """The source's hash, marked with the range."""
        low, high = self.original_range
        return f"{self.source.content_hash()}-from-{low!r}-{high!r}"

    def _rescaled(self, items: np.ndarray) -> np.ndarray:
        low, high = self.original_range
        wide = items.astype(np.float64)
        return ((wide - low) / (high - low)).astype(self.dtype)


def rescaled(source: Source, value_range: tuple[float, float]) -> Source:
    """A source with ``low`` at 0 and ``high`` at 1; images of uint8 are taken as they are, as 0 to 255.

    Raises:
        InputError: uint8 and another range than (0, 255).
    """
    if source.dtype == np.uint8:
        if value_range != (0.0, 255.0):
            raise InputError(
                f"{source.name}: value_range", expected="(0, 255) for uint8", received=str(value_range),
                do="Convert the items to floats first.",
            )  # fmt: skip
        return source
    return source if value_range == (0.0, 1.0) and _says_so(source) else RescaledSource(source, value_range)


def _says_so(source: Source) -> bool:
    return getattr(source, "value_range", None) == (0.0, 1.0)
