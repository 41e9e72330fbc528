"""Archives of images, read without extracting: zip files and tar files (webdataset's .tar included)."""

import json
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

from memfast.data.images import ImageItem, decode_images, is_image_name
from memfast.data.source import Source
from memfast.foundation.errors import InputError, first_line

MAX_MEMBER_BYTES = 256 << 20
ENCRYPTED = 1  # the bit of a zip member's flags
MAX_RATIO = 200  # of a zip member's size to its compressed size; images hardly compress at all


def matches(path: Path) -> bool:
    """Whether ``path`` is named like an archive this format reads, or is a folder of tar shards without images."""
    if path.is_dir() and any(path.glob("*.tar")):
        return not any(is_image_name(file.name) for file in path.rglob("*"))
    return path.is_file() and path.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz"))


def read(path: Path, *, part: str | None = None, **options: Any) -> Source:
    """The images of an archive, in the order of their names; webdataset's ``.cls`` and ``.json`` give labels.

    Of a folder, the images of its tar shards, one after the other.

    Raises:
        InputError: the archive is damaged, holds no image, or a member has an absolute or parent path or is a bomb.
    """
    files, items = sorted(path.glob("*.tar")) if path.is_dir() else [path], []
    with ExitStack() as opened:
        for file in files:
            try:
                members = opened.enter_context(_open_zip(file) if zipfile.is_zipfile(file) else _open_tar(file))
                images = sorted(name for name in members if is_image_name(name))
                within = f"{file.name}/" if path.is_dir() else ""
                items += [ImageItem(within + name, members[name], _label(name, members)) for name in images]
            except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
                raise InputError(
                    str(file), expected="a readable zip or tar archive", received=first_line(error)
                ) from error
        return decode_images(items, name=str(path), **options)


Members = dict[str, Callable[[], bytes]]


@contextmanager
def _open_zip(path: Path) -> Iterator[Members]:
    with zipfile.ZipFile(path) as archive:
        lock = Lock()

        def content(info: zipfile.ZipInfo) -> bytes:
            try:
                with lock:
                    return archive.read(info)
            except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
                raise ValueError(first_line(error)) from error  # one bad member, not a bad archive

        members: Members = {}
        for info in archive.infolist():
            if info.is_dir():
                continue
            if info.flag_bits & ENCRYPTED:
                raise InputError(
                    f"{path}: member {info.filename!r}", expected="an archive without a password",
                    received="an encrypted member", do="Pack it again without a password.",
                )  # fmt: skip
            ratio = info.file_size / max(1, info.compress_size)
            if info.file_size > MAX_MEMBER_BYTES or (ratio > MAX_RATIO and info.file_size > 1 << 20):
                raise _refused(path, info.filename, f"{info.file_size:,} bytes packed in {info.compress_size:,}")
            _add(members, path, info.filename, partial(content, info))
        yield members


@contextmanager
def _open_tar(path: Path) -> Iterator[Members]:
    with tarfile.open(path) as archive:
        lock = Lock()

        def content(info: tarfile.TarInfo) -> bytes:
            try:
                with lock:
                    file = archive.extractfile(info)
                    return file.read() if file is not None else b""
            except (tarfile.TarError, EOFError, zlib.error) as error:
                raise ValueError(first_line(error)) from error

        members: Members = {}
        for info in archive:
            if not info.isfile():
                continue
            if info.size > MAX_MEMBER_BYTES:
                raise _refused(path, info.name, f"{info.size:,} bytes")
            _add(members, path, info.name, partial(content, info))
        _check_end(path, archive)
        yield members


def _check_end(path: Path, archive: tarfile.TarFile) -> None:
    """Raise where members may be missing: tarfile takes a damaged or cut header for the end of the archive."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise InputError(
            str(path), expected="a whole tar archive, with its end",
            received=f"damage or a cut at byte {archive.offset:,}", do="Copy or pack it again.",
        )  # fmt: skip


def _add(members: Members, archive: Path, name: str, content: Callable[[], bytes]) -> None:
    safe = _safe_name(archive, name)
    if safe in members:
        raise InputError(
            f"{archive}: member {name!r}", expected="each name once", received="two members of this name",
            do="Pack it again with a name for each.",
        )  # fmt: skip
    members[safe] = content


def _safe_name(archive: Path, name: str) -> str:
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or (pure.parts and pure.parts[0].endswith(":")):
        raise InputError(
            f"{archive}: member {name!r}", expected="a path inside the archive", received="an absolute or parent path",
            do="The archive is refused whole; pack it again with relative paths.",
        )  # fmt: skip
    return str(pure)


def _refused(archive: Path, name: str, received: str) -> InputError:
    return InputError(
        f"{archive}: member {name!r}", expected=f"at most {MAX_MEMBER_BYTES >> 20} MiB and no extreme compression",
        received=received, do="The archive is refused whole.",
    )  # fmt: skip


def _label(image: str, members: Members) -> int | None:
    stem = image[: image.index(".", image.rfind("/") + 1)]
    try:
        if f"{stem}.cls" in members:
            return int(members[f"{stem}.cls"]().decode())
        if f"{stem}.json" in members:
            label = json.loads(members[f"{stem}.json"]()).get("label")
            return int(label) if isinstance(label, int) else None
    except (ValueError, AttributeError):
        return None
    return None
