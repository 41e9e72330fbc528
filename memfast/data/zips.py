"""The members of a zip file."""

import stat
import zipfile
from pathlib import Path

from memfast.data.listing import Listing
from memfast.data.members import Members, too_large
from memfast.data.open_files import OpenFiles
from memfast.data.pixels import is_image_name
from memfast.foundation.errors import InputError, first_line

ENCRYPTED = 1  # the bit of a member's flags


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
