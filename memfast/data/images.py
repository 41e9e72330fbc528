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

import numpy as np
from PIL import Image, UnidentifiedImageError

from memfast.data.source import ArraySource
from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.foundation.progress import Progress

MAX_PIXELS = 100_000_000
BYTES_IN_MEMORY = 2 << 30
GRAY_MODES = {"1", "L", "I;16", "I", "F", "LA"}
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

    Arrays past 2 GiB go to a temporary memory map, which is removed with the process.

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
    if mode not in ("auto", "L", "RGB"):
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
        array = array[good]
    if not kept:
        raise InputError(name, expected="at least one readable image", received=f"{len(items)} unreadable ones")
    labels = None
    if all(item.label is not None for item in kept):
        labels = np.array([item.label for item in kept], dtype=np.int64)
    source = ImageSource(array, name=name, labels=labels, names=[item.name for item in kept], skipped=skipped)
    source.class_names = list(class_names) if class_names is not None else None
    source.original_modes = dict(Counter(header[1] for header in found))
    return source


class ImageSource(ArraySource):
    """An array source of decoded images.

    Attributes:
        original_modes: how many files had which Pillow mode before they were converted to one.
    """

    original_modes: dict[str, int]


Header = tuple[tuple[int, int], str]
_UNREADABLE = (
    OSError, ValueError, SyntaxError, EOFError, UnidentifiedImageError, Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)  # fmt: skip


def _read_headers(items: Sequence[ImageItem], skip_bad: bool) -> tuple[list[Header | None], list[tuple[str, str]]]:
    def header(item: ImageItem) -> Header | str:
        try:
            with _open(item.read()) as image:
                return (image.height, image.width), image.mode
        except _UNREADABLE as error:
            return _reason(error)

    skipped: list[tuple[str, str]] = []
    headers: list[Header | None] = []
    with _pool() as pool:
        for item, found in zip(items, pool.map(header, items), strict=True):
            if isinstance(found, str):
                skipped.append(_bad_image(item.name, found, skip_bad))
                headers.append(None)
            else:
                headers.append(found)
    return headers, skipped


def _common_shape(
    items: Sequence[ImageItem], headers: Sequence[Header], mode: str, image_size: int | None
) -> tuple[int, ...]:
    gray = mode == "L" or (mode == "auto" and all(header[1] in GRAY_MODES for header in headers))
    size = headers[0][0]
    if image_size is not None:
        size = (image_size, image_size)
    else:
        for item, (other, _) in zip(items, headers, strict=True):
            if other != size:
                raise InputError(
                    item.name,
                    expected=f"{size[1]}x{size[0]} pixels, as {items[0].name}",
                    received=f"{other[1]}x{other[0]}",
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
        image: Image.Image = opened
        if image.mode in ("I;16", "I", "F"):
            image = _to_eight_bits(image)
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


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """16-bit gray by its upper 8 bits; other deep images must already lie in 0..255."""
    values = np.asarray(image)
    if image.mode.startswith("I") and values.max(initial=0) > 255:
        values = values.astype(np.int64) >> 8
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
        raise ValueError(f"a {image.mode} image with values outside 0..255")
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
