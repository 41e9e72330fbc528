"""The members of a tar file, plain or compressed: every part that was appended, links followed inside the archive."""

import bz2
import gzip
import lzma
import posixpath
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from memfast.data.listing import Listing
from memfast.data.members import MAX_RATIO, Members, too_large
from memfast.data.open_files import OpenFiles
from memfast.foundation.errors import InputError

MAX_UNPACKED_BYTES = 256 << 30
BYTES_IN_MEMORY = 64 << 20
RATIO_COUNTS_FROM = 1 << 30
BAD_LINK = "links to nothing in the archive"
_COMPRESSIONS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_CHUNK = 1 << 20
_LONGEST_CHAIN = 40  # links to links


def open_tar(path: Path, opened: OpenFiles) -> Listing:
    """The files in a tar, read on demand; of a compressed one a temporary file without a name holds the plain bytes.

    Raises:
        InputError: it is cut or damaged, a name comes twice or leads out of the archive, or it is a bomb.
    """
    with open(path, "rb") as file:
        compression = next((one for start, one in _COMPRESSIONS.items() if file.peek(8).startswith(start)), None)
        if compression is None:
            members = _members(path, file)
    if compression is not None:
        unpack = compression
        with opened.use(path, lambda: _unpacked(path, unpack)) as plain:
            members = _members(path, plain)

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


def _members(path: Path, file: IO[bytes]) -> Members:
    """Every member of every archive in the file: ``cat a.tar b.tar`` makes one file of two."""
    members = Members(path)
    links: list[tuple[str, str]] = []
    start: int | None = 0
    while start is not None:
        file.seek(start)
        with tarfile.TarFile(fileobj=file) as archive:
            part = Members(path)
            for info in archive:
                _take(part, info, links)
            end = archive.offset
        if end == start > 0:
            members.passed.add("bytes behind the end of the archive", path.name)
            break
        for name, place in part.places.items():
            members.places[name if name not in members.places else f"at {start:,}/{name}"] = place
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


def _take(members: Members, info: tarfile.TarInfo, links: list[tuple[str, str]]) -> None:
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
        members.passed.add(BAD_LINK, name)


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
        plain = undo.enter_context(tempfile.SpooledTemporaryFile(max_size=BYTES_IN_MEMORY))
        with opener(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                size += len(chunk)
                if size > MAX_UNPACKED_BYTES or (size > RATIO_COUNTS_FROM and size / packed > MAX_RATIO):
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
