"""What the members of every archive have in common: safe names, limits, and which are hidden."""

from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from memfast.data.listing import HIDDEN, Listing, is_hidden
from memfast.data.not_read import PassedOver
from memfast.data.pixels import is_image_name
from memfast.foundation.errors import InputError

MAX_MEMBER_BYTES = 256 << 20
# A white bitmap packs 1,000 to 1; only what is large as well is a bomb.
MAX_RATIO, RATIO_COUNTS_FROM = 200, 64 << 20


class Members:
    """Collects the members of an archive under safe names, each once.

    Args:
        archive: the file, for errors.
    """

    def __init__(self, archive: Path) -> None:
        self.archive, self.passed = archive, PassedOver()
        self.places: dict[str, tuple[int, int]] = {}

    def add(self, name: str, place: tuple[int, int], size: int, packed: int | None = None) -> None:
        """Take a member in, or pass it over where it is hidden.

        Raises:
            InputError: its path leads out of the archive, its name came already, or it is an image and a bomb.
        """
        safe = self.safe_name(name)
        if is_hidden(safe):
            self.passed.add(HIDDEN, safe)
            return
        if safe in self.places:
            raise InputError(
                f"{self.archive}: member {name!r}", expected="each name once", received="two members of this name",
                do="Pack it again with a name for each.",
            )  # fmt: skip
        if is_image_name(safe):
            reason = too_large(size, packed)
            if reason is not None:
                raise InputError(
                    f"{self.archive}: member {name!r}",
                    expected=f"at most {MAX_MEMBER_BYTES >> 20} MiB and no extreme compression", received=reason,
                    do="The archive is refused whole.",
                )  # fmt: skip
        self.places[safe] = place

    def safe_name(self, name: str) -> str:
        """A member's path with ``/`` between folders.

        Raises:
            InputError: the path is absolute or leads above the archive.
        """
        pure = PurePosixPath(name.replace("\\", "/"))
        if pure.is_absolute() or ".." in pure.parts or (pure.parts and pure.parts[0].endswith(":")):
            raise InputError(
                f"{self.archive}: member {name!r}", expected="a path inside the archive",
                received="an absolute or parent path",
                do="The archive is refused whole; pack it again with relative paths.",
            )  # fmt: skip
        return str(pure)

    def listing(self, read: Callable[[str], bytes], names: Iterable[str] | None = None) -> Listing:
        """The members as a listing."""
        return Listing(str(self.archive), names or self.places, read, self.passed, within=True)


def too_large(size: int, packed: int | None = None) -> str | None:
    """Why a member of this size is refused, or None."""
    ratio = 0 if packed is None else size / max(1, packed)
    if size > MAX_MEMBER_BYTES or (ratio > MAX_RATIO and size >= RATIO_COUNTS_FROM):
        return f"{size:,} bytes" + ("" if packed is None else f" packed in {packed:,}")
    return None
