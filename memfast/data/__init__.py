"""Readers: whatever the user has becomes a :class:`Source` of items read by index."""

from memfast.data.images import ImageSource
from memfast.data.reading import open_source
from memfast.data.source import ArraySource, Source

__all__ = ["ArraySource", "ImageSource", "Source", "open_source"]
