"""Images from bytes: decoded by Pillow, converted to one mode on purpose, collected into one uint8 array.

Every image format of memfast (folder, zip, tar, parquet) is an iterable of :class:`ImageItem`; this file does the rest.
"""

import io
import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from memfast.data.source import ArraySource
from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.foundation.progress import Progress

MAX_PIXELS = 100_000_000
BYTES_IN_MEMORY = 2 << 30
SIXTEEN_BIT_MODES = {"I;16", "I;16L", "I;16B", "I;16N"}
GRAY_MODES = {"1", "L", "I", "F", "LA", *SIXTEEN_BIT_MODES}
MODES = ("auto", "L", "RGB")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


@dataclass(frozen=True)
class ImageItem:
    """One encoded image: its name, how to read its bytes, and its class label if it has one."""

    name: str
    read: Callable[[], bytes]
    label: int | None = None


def is_image_name(name: str) -> bool:
    """Whether a file's name ends like an image's and does not start with a dot."""
    return name.lower().endswith(SUFFIXES) and not Path(name).name.startswith(".")


def decode_images(
    items: Sequence[ImageItem],
    *,
    name: str,
    skip_bad: bool = False,
    mode: str = "auto",
    image_size: int | None = None,
    class_names: Sequence[str] | None = None,
    progress: bool = False,
) -> "ImageSource":
    """Decode every item into one uint8 array ``[N, H, W]`` (gray) or ``[N, H, W, 3]`` (colour).

    Images are turned upright where their EXIF says so, as viewers and Hugging Face data sets do. Of 16 bits the upper 8
    stay, and of animations the first picture. Arrays past 2 GiB go to a temporary memory map, which is removed with the
    process.

    Args:
        items: the images, in order.
        name: what the source is called in messages.
        skip_bad: leave unreadable images out, and list them in ``.skipped``, instead of raising.
        mode: ``"L"`` (gray), ``"RGB"``, or ``"auto"``: gray where every image is gray. Transparency is laid on white.
        image_size: side in pixels to bring every image to (centre square crop, Lanczos); None refuses mixed sizes.
        class_names: names of the labels, if the items carry labels.
        progress: show progress.

    Raises:
        InputError: no image, an unreadable image, or images of different sizes; the item is named.
    """
    if mode not in MODES:
        raise InputError("mode", expected="'auto', 'L' or 'RGB'", received=repr(mode))
    if image_size is not None:
        whole_number("image_size", image_size, least=1, words="a side of at least 1 pixel")
    if not items:
        raise InputError(name, expected="at least one image", received="none", do=f"Looked for {', '.join(SUFFIXES)}.")
    headers, skipped = _read_headers(items, skip_bad)
    kept = [item for item, header in zip(items, headers, strict=True) if header is not None]
    found = [header for header in headers if header is not None]
    if not kept:
        raise InputError(name, expected="at least one readable image", received=f"{len(items)} unreadable ones")
    shape = _common_shape(kept, found, mode, image_size)
    array = _new_array((len(kept), *shape))
    good = np.ones(len(kept), dtype=bool)

    def decode(position: int) -> str | None:
        try:
            array[position] = _decode(kept[position].read(), len(shape) == 2, image_size)
        except _UNREADABLE as error:
            good[position] = False
            return _reason(error)
        return None

    with Progress(f"reading {name}", len(kept), "images", show=progress) as bar, _pool() as pool:
        for position, reason in enumerate(pool.map(decode, range(len(kept)))):
            bar.advance()
            if reason is not None:
                skipped.append(_bad_image(kept[position].name, reason, skip_bad))
    if not good.all():
        kept = [item for item, fine in zip(kept, good, strict=True) if fine]
        found = [header for header, fine in zip(found, good, strict=True) if fine]
        array = array[good]
    if not kept:
        raise InputError(name, expected="at least one readable image", received=f"{len(items)} unreadable ones")
    labels = None
    if all(item.label is not None for item in kept):
        labels = np.array([item.label for item in kept], dtype=np.int64)
    source = ImageSource(array, name=name, labels=labels, names=[item.name for item in kept], skipped=skipped)
    source.class_names = list(class_names) if class_names is not None else None
    source.original_modes = dict(Counter(header.mode for header in found))
    source.turned = sum(header.orientation in _TURNS for header in found)
    source.side = image_size
    return source


class ImageSource(ArraySource):
    """An array source of decoded images.

    Attributes:
        original_modes: how many files had which Pillow mode before they were converted to one.
        turned: how many were turned upright, as their EXIF says.
        side: to which side all were cropped and resized, or None.
    """

    original_modes: dict[str, int]
    turned: int = 0
    side: int | None = None

    @property
    def conversion(self) -> dict[str, Any]:
        """What was done to the files' images, as plain values: ``modes``, ``to``, ``turned`` and ``side``."""
        to = "L" if len(self.item_shape) == 2 else "RGB"
        return {"modes": dict(self.original_modes), "to": to, "turned": self.turned, "side": self.side}


@dataclass(frozen=True)
class _Header:
    """What is known of an image before its pixels are decoded; the size is that of the upright image."""

    size: tuple[int, int]
    mode: str
    orientation: int


# EXIF's orientations other than upright, and what undoes them.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_ON_THEIR_SIDE = (5, 6, 7, 8)
_ORIENTATION = 0x0112
_UNREADABLE = (
    OSError, ValueError, SyntaxError, EOFError, UnidentifiedImageError, Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)  # fmt: skip


def _read_headers(items: Sequence[ImageItem], skip_bad: bool) -> tuple[list[_Header | None], list[tuple[str, str]]]:
    def header(item: ImageItem) -> _Header | str:
        try:
            with _open(item.read()) as image:
                orientation = _orientation(image)
                height, width = (image.width, image.height)[:: 1 if orientation in _ON_THEIR_SIDE else -1]
                return _Header((height, width), image.mode, orientation)
        except _UNREADABLE as error:
            return _reason(error)

    skipped: list[tuple[str, str]] = []
    headers: list[_Header | None] = []
    with _pool() as pool:
        for item, found in zip(items, pool.map(header, items), strict=True):
            if isinstance(found, str):
                skipped.append(_bad_image(item.name, found, skip_bad))
                headers.append(None)
            else:
                headers.append(found)
    return headers, skipped


def _common_shape(
    items: Sequence[ImageItem], headers: Sequence[_Header], mode: str, image_size: int | None
) -> tuple[int, ...]:
    gray = mode == "L" or (mode == "auto" and all(header.mode in GRAY_MODES for header in headers))
    size = headers[0].size
    if image_size is not None:
        size = (image_size, image_size)
    else:
        for item, header in zip(items, headers, strict=True):
            if header.size != size:
                raise InputError(
                    item.name,
                    expected=f"{size[1]}x{size[0]} pixels, as {items[0].name}",
                    received=f"{header.size[1]}x{header.size[0]}",
                    do="Bring all images to one size, or pass image_size (--image-size) to crop and resize them.",
                )
    return size if gray else (*size, 3)


def _open(content: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(content))
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels are over the limit of {MAX_PIXELS:,}")
    return image


def _decode(content: bytes, gray: bool, image_size: int | None) -> np.ndarray:
    with _open(content) as opened:
        turn = _TURNS.get(_orientation(opened))
        image: Image.Image = opened
        if image.mode in ("I", "F") or image.mode in SIXTEEN_BIT_MODES:
            image = _to_eight_bits(opened)
        if turn is not None:
            image = image.transpose(turn)
        if "A" in image.mode or "transparency" in image.info:
            rgba = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        image = image.convert("L" if gray else "RGB")
        if image_size is not None:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            box = (left, top, left + side, top + side)
            image = image.resize((image_size, image_size), Image.Resampling.LANCZOS, box=box)
        return np.asarray(image, dtype=np.uint8)


def _orientation(image: Image.Image) -> int:
    """The orientation that EXIF states; 1, upright, where it states none or Pillow turns the image itself (TIFF)."""
    # A PNG without EXIF at its beginning would be decoded whole to look for EXIF at its end.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damage in what is said about an image is no damage of its pixels
        return 1


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """16-bit gray by its upper 8 bits; other deep images must hold whole numbers of 0..255.

    What an image holds never decides how it is scaled: a dark picture would come out as a bright one.
    """
    values = np.asarray(image)
    if image.mode in SIXTEEN_BIT_MODES or (image.mode == "I" and image.format in ("PNG", "PPM")):
        values = values.astype(np.int64) >> 8
    whole = np.isfinite(values).all() and (values == np.rint(values)).all()
    fraction = values.dtype.kind == "f" and 0 < values.max(initial=0) <= 1
    if not whole or fraction or values.min() < 0 or values.max() > 255:
        raise ValueError(f"a {image.mode} image of {values.min():g} to {values.max():g}, no whole numbers of 0 to 255")
    return Image.fromarray(values.astype(np.uint8))


def _new_array(shape: tuple[int, ...]) -> np.ndarray:
    if int(np.prod(shape)) <= BYTES_IN_MEMORY:
        return np.empty(shape, np.uint8)
    with tempfile.NamedTemporaryFile(prefix="memfast-", suffix=".pixels") as file:
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)


def _bad_image(name: str, reason: str, skip_bad: bool) -> tuple[str, str]:
    if not skip_bad:
        raise InputError(
            name, expected="a readable image", received=reason,
            do="Repair or remove it, or pass skip_bad=True (--skip-bad) to leave such images out and count them.",
        )  # fmt: skip
    return name, reason


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "bytes that are no image"
    return str(error) or type(error).__name__


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1))
