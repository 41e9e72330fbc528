"""Folders of images: every image below the folder, in natural order of the paths; class folders become labels."""

import re
from pathlib import Path
from typing import Any

from memfast.data.images import ImageItem, decode_images, is_image_name
from memfast.data.source import Source
from memfast.foundation.errors import InputError


def matches(path: Path) -> bool:
    """Whether ``path`` is a folder that this format may read."""
    return path.is_dir()


def read(path: Path, *, part: str | None = None, **options: Any) -> Source:
    """The images below ``path``.

    When every image lies in exactly one subfolder, the subfolders' names, sorted, are the classes.
    """
    files = sorted((file for file in path.rglob("*") if file.is_file() and is_image_name(file.name)), key=_natural)
    if not files:
        raise InputError(
            str(path), expected="a folder with images", received="a folder without any",
            do="Give a folder of png, jpg, bmp, gif, tif or webp files (subfolders are searched).",
        )  # fmt: skip
    parts = [file.relative_to(path).parts for file in files]
    classes = sorted({part[0] for part in parts}) if all(len(part) == 2 for part in parts) else None
    items = [
        ImageItem("/".join(part), file.read_bytes, None if classes is None else classes.index(part[0]))
        for file, part in zip(files, parts, strict=True)
    ]
    return decode_images(items, name=str(path), class_names=classes, **options)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that puts img2 before img10."""
    pieces = re.split(r"(\d+)", str(path))
    return [(1, int(piece), "") if piece.isdigit() else (0, 0, piece) for piece in pieces]
