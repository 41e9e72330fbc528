"""Writers of the same encoded items into every container, with real libraries."""

import io
import tarfile
import zipfile

from PIL import Image


def encoded(image, kind="PNG", **options):
    """An image's bytes."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def write_folder(path, files):
    """Files by name below a folder."""
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def write_zip(path, files, compression=zipfile.ZIP_DEFLATED):
    """The same as members of a zip."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path, files, mode="w"):
    """The same as members of a tar; ``mode`` also names the compression."""
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def gray(value, side=8):
    """A plain gray image."""
    return Image.new("L", (side, side), value)


def reasons(source):
    """What was passed over, as plain values."""
    return {one.reason: one.count for one in source.not_read}
