"""Readers: whatever the user has becomes a :class:`Source` of items read by index."""

from memfast.data.format import Format
from memfast.data.formats import FORMATS
from memfast.data.images import ImageSource
from memfast.data.not_read import NotRead
from memfast.data.pixels import ReadingRules
from memfast.data.reading import open_source, open_sources
from memfast.data.source import ArraySource, Source
from memfast.data.tabular import TableSource

__all__ = [
    "FORMATS", "ArraySource", "Format", "ImageSource", "NotRead", "ReadingRules", "Source", "TableSource",
    "open_source", "open_sources",
]  # fmt: skip
