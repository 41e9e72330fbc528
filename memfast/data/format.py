"""What a format of data is: it says which files, or which objects, it reads, and reads them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from memfast.data.listing import Folder
from memfast.data.options import ReadingOptions
from memfast.data.source import Source
from memfast.foundation.errors import InputError, MemfastError, first_line


class Format:
    """One format. A subclass is one file and one entry in ``memfast/data/formats.py``, or an entry point.

    A reader calls ``place.use(...)`` on every file that it reads and adds what it passes over inside of them to
    ``place.passed``; all other files are counted by their suffixes.

    Attributes:
        name: what a caller writes to choose between several formats in one folder: ``PATH::name``.
        whole: whether a folder that this format claims belongs to it alone, whatever else lies there.
    """

    name: str
    whole: bool = False

    def claim(self, place: Folder) -> list[str]:
        """The files that hold data of this format, in order."""
        return []

    def describes_others(self, place: Folder, names: list[str]) -> bool:
        """Whether these files may lie beside data of another format only to describe it."""
        return False

    def read(self, place: Folder, names: list[str], options: ReadingOptions) -> Source:
        """The items of these files.

        Raises:
            InputError: they cannot be read.
        """
        raise NotImplementedError

    def accepts(self, data: Any) -> bool:
        """Whether ``data`` is an object in memory that this format reads."""
        return False

    def read_object(self, data: Any, name: str | None, options: ReadingOptions) -> Source:
        """The items of an object in memory.

        Raises:
            InputError: they cannot be read.
        """
        raise NotImplementedError


@contextmanager
def reading(what: str, expected: str, do: str = "") -> Iterator[None]:
    """Turn whatever a library raises on damaged or hostile bytes into one clear error.

    Raises:
        InputError: the body raised something else than an error of memfast.
    """
    try:
        yield
    except MemfastError:
        raise
    except MemoryError as error:
        raise InputError(
            what, expected="enough memory to read it", received="none left", do="Split it, or free memory."
        ) from error
    except Exception as error:
        raise InputError(what, expected=expected, received=first_line(error), do=do) from error
