"""Named entries that can be read: the files of a folder, files given one by one, or the members of an archive.

One order for all of them: natural, so that ``img2`` comes before ``img10``.
"""

import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from memfast.data.not_read import PassedOver
from memfast.foundation.errors import InputError

SYSTEM_NAMES = {
    "__macosx", "@eadir", "@recycle", "#recycle", "#snapshot", "thumbs.db", "desktop.ini", "lost+found",
    "$recycle.bin", "system volume information", "__pycache__",
}  # fmt: skip
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".tbz2", ".xz", ".txz", ".zst", ".7z", ".rar")
HIDDEN = "hidden and system files"
SEEN = "links to folders that are read under another name or lie above"


class Listing:
    """Entries by name, in natural order.

    Attributes:
        what: what a person calls the whole: the folder, the archive.
        names: the entries' names, with ``/`` between folders.
        passed: what was passed over so far.
        within: whether the entries lie in an archive.
    """

    def __init__(
        self, what: str, names: Iterable[str], read: Callable[[str], bytes], passed: PassedOver, *,
        within: bool = False, ordered: bool = True,
    ) -> None:  # fmt: skip
        self.what, self.passed, self.within = what, passed, within
        self.names = sorted(names, key=natural_key) if ordered else list(names)
        self._read, self._used = read, set[str]()
        self._all: set[str] | None = None

    def __contains__(self, name: str) -> bool:
        if self._all is None:
            self._all = set(self.names)
        return name in self._all

    def ending(self, suffixes: Sequence[str]) -> list[str]:
        """The names that end with one of these suffixes, whatever their case."""
        return [name for name in self.names if name.lower().endswith(tuple(suffixes))]

    def read(self, name: str) -> bytes:
        """The content of one entry.

        Raises:
            OSError: it cannot be read.
            ValueError: it is damaged.
        """
        return self._read(name)

    def use(self, names: Iterable[str]) -> None:
        """Say that these entries were read."""
        self._used.update(names)

    def pass_over_rest(self) -> None:
        """Count every entry that was not used, by its suffix."""
        for name in self.names:
            if name not in self._used:
                inner = self.within and name.lower().endswith(_ARCHIVES)
                reason = "archives inside archives" if inner else _kind_of_name(name)
                self.passed.add(reason if inner or not self.within else f"{reason} in an archive", name)
        self.use(self.names)


class Folder(Listing):
    """The files below a folder or, of one file or a list of files, those files.

    Links are followed. A folder that is reached twice, or a link to a folder above, is read once: nothing goes in
    circles. Hidden files (``.git``, ``.ipynb_checkpoints``, ``__MACOSX``, ``@eaDir``), broken links, pipes and devices
    are passed over and counted.

    Attributes:
        root: the folder, or None for files given by their paths.
    """

    def __init__(
        self, what: str, root: Path | None, names: Iterable[str], passed: PassedOver, *, ordered: bool
    ) -> None:
        self.root = root
        super().__init__(what, names, self._content, passed, ordered=ordered)

    @classmethod
    def at(cls, path: Path) -> "Folder":
        """The files below ``path``, or the file ``path`` itself.

        Raises:
            InputError: nothing there, or neither a file nor a folder.
        """
        kind = _kind(path)
        if kind == "file":
            return cls(str(path), None, [str(path)], PassedOver(), ordered=True)
        passed = PassedOver()
        try:
            names = _walk(path, passed)
        except OSError as error:
            raise InputError(
                str(path), expected="a folder that can be listed", received=error.strerror or str(error)
            ) from error
        return cls(str(path), path, names, passed, ordered=True)

    @classmethod
    def of(cls, what: str, paths: Iterable[str | os.PathLike[str]]) -> "Folder":
        """Files given one by one, in the given order.

        Raises:
            InputError: one of them is not a file.
        """
        names = [os.fspath(path) for path in paths]
        for name in names:
            if _kind(Path(name)) != "file":
                raise InputError(name, expected="a file", received="a folder", do="Give one folder alone.")
        return cls(what, None, names, PassedOver(), ordered=False)

    def path(self, name: str) -> Path:
        """Where an entry lies."""
        return Path(name) if self.root is None else self.root / name

    def _content(self, name: str) -> bytes:
        return self.path(name).read_bytes()


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that puts ``img2`` before ``img10``; equal numbers (``01``, ``1``) go by spelling.

    Both spellings of an accented letter in Unicode sort alike.

    >>> sorted(["img10", "img2", "img02"], key=natural_key)
    ['img02', 'img2', 'img10']
    """
    pieces = re.split(r"(\d+)", one_spelling(name))
    return [(1, int(piece), "") if place % 2 else (0, 0, piece) for place, piece in enumerate(pieces)], name


def is_hidden(name: str) -> bool:
    """Whether a part of this path is hidden, or belongs to a system and not to the data."""
    return any(part.startswith(".") or part.lower() in SYSTEM_NAMES for part in name.split("/"))


def one_spelling(text: str) -> str:
    """Text in Unicode's composed form, in which two spellings of one name are equal."""
    return unicodedata.normalize("NFC", text)


def _kind_of_name(name: str) -> str:
    suffix = os.path.splitext(name.rsplit("/", 1)[-1])[1].lower()
    return f"{suffix} files" if suffix else "files without a suffix"


def _kind(path: Path) -> str:
    """ "file" or "folder"; anything else is refused before it is opened: a pipe would wait for ever."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        received = (
            "nothing there" if isinstance(error, FileNotFoundError | ValueError) else f"an error: {error.strerror}"
        )
        if isinstance(error, FileNotFoundError) and os.path.islink(path):
            received = "a broken link"
        raise InputError(str(path), expected="a file or folder", received=received, do="Check the path.") from error
    if stat.S_ISDIR(mode):
        return "folder"
    if not stat.S_ISREG(mode):
        raise InputError(str(path), expected="a file or folder", received="a pipe, socket or device")
    return "file"


def _walk(root: Path, passed: PassedOver) -> list[str]:
    names: list[str] = []
    seen = {_identity(root)} | {_identity(parent) for parent in root.resolve().parents}
    folders, links = [""], list[str]()
    while folders or links:
        # What links lead to comes after everything that lies here, so that a folder keeps its own name.
        if not folders:
            links.sort(key=natural_key, reverse=True)
            link = links.pop()
            if _identity(root / link) in seen:
                passed.add(SEEN, link)
                continue
            seen.add(_identity(root / link))
            folders.append(link)
        _list_folder(root, folders.pop(), names, folders, links, seen, passed)
    return names


def _list_folder(
    root: Path, folder: str, names: list[str], folders: list[str], links: list[str], seen: set[tuple[int, int]],
    passed: PassedOver,
) -> None:  # fmt: skip
    try:
        entries = list(os.scandir(root / folder))
    except OSError:
        if not folder:
            raise
        passed.add("folders that cannot be read", folder)
        return
    for entry in entries:
        name = f"{folder}/{entry.name}" if folder else entry.name
        hidden = is_hidden(name)
        if entry.is_symlink() and not os.path.exists(entry.path):
            passed.add(HIDDEN if hidden else "broken links", name)
        elif entry.is_dir():
            if entry.is_symlink():
                passed.add(HIDDEN, name) if hidden else links.append(name)
            elif _identity(entry.path) in seen:
                passed.add(SEEN, name)
            else:
                seen.add(_identity(entry.path))
                folders.append(name)
        elif hidden:
            passed.add(HIDDEN, name)
        elif entry.is_file():
            names.append(name)
        else:
            passed.add("pipes, sockets and devices", name)


def _identity(path: str | Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino
