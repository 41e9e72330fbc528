"""The members of zip and tar files under safe names, each once; nothing is extracted.

A tar may be compressed and may have other tars behind it; links are followed inside it.
"""

import bz2
import gzip
import lzma
import posixpath
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import IO, Any

from memfast.data.format import reading
from memfast.data.listing import HIDDEN, SEEN, Listing, is_hidden
from memfast.data.not_read import PassedOver
from memfast.data.open_files import OpenFiles
from memfast.data.pixels import is_image_name
from memfast.foundation.errors import InputError, first_line

MAX_MEMBER_BYTES = 256 << 20
# A white bitmap packs 1,000 to 1; only what is large as well is a bomb.
MAX_RATIO, RATIO_COUNTS_FROM = 200, 64 << 20
ENCRYPTED = 1  # the bit of a member's flags
MAX_UNPACKED_BYTES = 256 << 30
_BYTES_IN_MEMORY = 64 << 20
_TAR_RATIO_COUNTS_FROM = 1 << 30
_ZIP_START = b"PK"
BAD_LINK = "links to nothing in the archive"
_COMPRESSIONS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_CHUNK = 1 << 20
_LONGEST_CHAIN = 40  # links to links


def open_archive(path: Path, opened: OpenFiles) -> Listing:
    """The members of one archive.

    Raises:
        InputError: it is damaged, or a member has an absolute or parent path or is a bomb.
    """
    with reading(str(path), "a readable zip or tar archive", do="Copy or pack it again."):
        with open(path, "rb") as file:
            start = file.read(len(_ZIP_START))
        if path.name.lower().endswith(".zip") or start == _ZIP_START:
            return open_zip(path, opened)
        return open_tar(path, opened)
    raise InputError(str(path), expected="an archive", received="nothing")


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

    def listing(self, read: Callable[[str], bytes]) -> Listing:
        """The members as a listing."""
        return Listing(str(self.archive), self.places, read, self.passed, within=True)


def open_zip(path: Path, opened: OpenFiles) -> Listing:
    """The files in a zip, read on demand.

    Raises:
        InputError: an image is encrypted or a bomb, a name comes twice or leads out of the archive.
    """
    members = Members(path)
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    for number, info in enumerate(infos):
        if info.is_dir():
            continue
        if stat.S_ISLNK(info.external_attr >> 16):
            members.passed.add("links in a zip file", members.safe_name(info.filename))
            continue
        if info.flag_bits & ENCRYPTED:
            if is_image_name(info.filename):
                raise InputError(
                    f"{path}: member {info.filename!r}", expected="an archive without a password",
                    received="an encrypted member", do="Pack it again without a password.",
                )  # fmt: skip
            members.passed.add("encrypted files", members.safe_name(info.filename))
            continue
        members.add(info.filename, (number, 0), info.file_size, info.compress_size)

    def read(name: str) -> bytes:
        info = infos[members.places[name][0]]
        reason = too_large(info.file_size, info.compress_size)
        if reason is not None:
            raise ValueError(reason)
        with opened.use(path, lambda: zipfile.ZipFile(path)) as archive:
            try:
                return archive.read(info)
            except MemoryError:
                raise
            except Exception as error:  # one bad member, not a bad archive
                raise ValueError(first_line(error)) from error

    return members.listing(read)


def open_tar(path: Path, opened: OpenFiles) -> Listing:
    """The files in a tar, read on demand; of a compressed one a temporary file without a name holds the plain bytes.

    Raises:
        InputError: it is cut or damaged, a name comes twice or leads out of the archive, or it is a bomb.
    """
    with open(path, "rb") as file:
        compression = next((one for start, one in _COMPRESSIONS.items() if file.peek(8).startswith(start)), None)
        if compression is None:
            members = _tar_members(path, file)
    if compression is not None:
        unpack = compression
        with opened.use(path, lambda: _unpacked(path, unpack)) as plain:
            members = _tar_members(path, plain)

    def read(name: str) -> bytes:
        offset, size = members.places[name]
        reason = too_large(size)
        if reason is not None:
            raise ValueError(reason)
        if compression is None:
            with open(path, "rb") as file:
                return _piece(file, offset, size)
        with opened.use(path, lambda: _unpacked(path, compression)) as plain:
            return _piece(plain, offset, size)

    return members.listing(read)


def _tar_members(path: Path, file: IO[bytes]) -> Members:
    """Every member of every archive in the file: ``cat a.tar b.tar`` makes one file of two."""
    members = Members(path)
    links: list[tuple[str, str]] = []
    start: int | None = 0
    while start is not None:
        file.seek(start)
        with tarfile.TarFile(fileobj=file) as archive:
            part = Members(path)
            for info in archive:
                _take_tar_member(part, info, links)
            end = archive.offset
        if end == start > 0:
            members.passed.add("bytes behind the end of the archive", path.name)
            break
        for name, place in part.places.items():
            members.places[name if name not in members.places else _second_name(name, start)] = place
        members.passed.extend(part.passed.result())
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise InputError(
                str(path), expected="a whole tar archive, with its end",
                received=f"damage or a cut at byte {end:,}", do="Copy or pack it again.",
            )  # fmt: skip
        start = _next_content(file)
    targets = dict(links)
    for name, target in links:
        _follow(members, name, target, targets)
    return members


def _second_name(name: str, start: int) -> str:
    """A name that came in an earlier part already; its folder and suffix stay, which labels go by."""
    folder, slash, base = name.rpartition("/")
    stem, dot, suffix = base.partition(".")
    return f"{folder}{slash}{stem} (at {start:,}){dot}{suffix}"


def _take_tar_member(members: Members, info: tarfile.TarInfo, links: list[tuple[str, str]]) -> None:
    if info.isdir():
        return
    if info.issparse():
        members.passed.add("sparse files in an archive", members.safe_name(info.name))
    elif info.isfile():
        members.add(info.name, (info.offset_data, info.size), info.size)
    elif info.islnk() or info.issym():
        name = members.safe_name(info.name)
        here = posixpath.dirname(name) if info.issym() else ""
        links.append((name, posixpath.normpath(posixpath.join(here, info.linkname.replace("\\", "/")))))
    else:
        members.passed.add("pipes, sockets and devices", members.safe_name(info.name))


def _follow(members: Members, name: str, target: str, links: dict[str, str]) -> None:
    """Give a link the content of the member it leads to."""
    for _ in range(_LONGEST_CHAIN):
        if target in members.places or target not in links:
            break
        target = links[target]
    if target in members.places and name not in members.places:
        members.add(name, members.places[target], members.places[target][1])
    else:
        to_folder = any(place.startswith(f"{target}/") for place in members.places)
        members.passed.add(SEEN if to_folder else BAD_LINK, name)


def _next_content(file: IO[bytes]) -> int | None:
    """Where, in whole blocks, anything but zeros comes next; None at the end."""
    while chunk := file.read(_CHUNK):
        rest = chunk.lstrip(b"\0")
        if rest:
            place = file.tell() - len(rest)
            return place - place % tarfile.BLOCKSIZE
    return None


def _unpacked(path: Path, opener: Callable[..., Any]) -> IO[bytes]:
    packed, size = max(1, path.stat().st_size), 0
    with ExitStack() as undo:
        plain = undo.enter_context(tempfile.SpooledTemporaryFile(max_size=_BYTES_IN_MEMORY))
        with opener(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                size += len(chunk)
                if size > MAX_UNPACKED_BYTES or (size > _TAR_RATIO_COUNTS_FROM and size / packed > MAX_RATIO):
                    raise InputError(
                        str(path), expected="an archive without extreme compression",
                        received=f"{size:,} bytes and more packed in {packed:,}", do="The archive is refused whole.",
                    )  # fmt: skip
                plain.write(chunk)
        undo.pop_all()
    return plain


def _piece(file: IO[bytes], offset: int, size: int) -> bytes:
    file.seek(offset)
    content = file.read(size)
    if len(content) != size:
        raise ValueError("a member that is cut")
    return content


def too_large(size: int, packed: int | None = None) -> str | None:
    """Why a member of this size is refused, or None."""
    ratio = 0 if packed is None else size / max(1, packed)
    if size > MAX_MEMBER_BYTES or (ratio > MAX_RATIO and size >= RATIO_COUNTS_FROM):
        return f"{size:,} bytes" + ("" if packed is None else f" packed in {packed:,}")
    return None
