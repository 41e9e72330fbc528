"""Many images become one uint8 array: decoded by the same rules, of one mode and one size, the bad ones named.

Every format of images (folder, archive, table, list) gives :class:`EncodedImages` or pictures; this file does the rest.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition
from typing import Any

import numpy as np
from PIL import Image

from memfast.data.labels import Labels
from memfast.data.not_read import PassedOver
from memfast.data.options import ReadingOptions
from memfast.data.pixels import (
    Header,
    ReadingRules,
    header_of,
    image_suffixes,
    is_gray,
    is_turned,
    open_image,
    pixels_of,
)
from memfast.data.source import ArraySource
from memfast.foundation.errors import InputError, first_line
from memfast.foundation.progress import Progress

BYTES_IN_MEMORY = 2 << 30
UNREADABLE, LATER_FRAMES = "unreadable images", "later frames and pages"
_DECODING_PIXELS = 120_000_000  # decoded at the same time, over all threads; a pixel takes up to 12 bytes on the way


@dataclass(frozen=True)
class EncodedImages:
    """Encoded images by place.

    Attributes:
        names: of each image.
        read: the bytes of the image at a place; may raise OSError or ValueError.
        labels: of all of them.
        passed: what was passed over beside them, and what will be.
    """

    names: Sequence[str]
    read: Callable[[int], bytes]
    labels: Labels = field(default_factory=Labels)
    passed: PassedOver = field(default_factory=PassedOver)


def decode_images(images: EncodedImages, *, name: str, options: ReadingOptions) -> "ImageSource":
    """Decode every image into one uint8 array ``[N, H, W]`` (gray) or ``[N, H, W, 3]`` (colour).

    Images are turned upright where their EXIF or XMP says so, as viewers and Hugging Face data sets do. Of 16 bits the
    upper 8 stay, and of animations the first picture. Arrays past 2 GiB go to a temporary memory map, which is removed
    with the process.

    Args:
        images: the images, in order.
        name: what the source is called in messages.
        options: mode, size, progress, and whether unreadable images are left out or raise.

    Raises:
        InputError: no image, an unreadable image, or images of different sizes; the item is named.
    """
    if not len(images.names):
        raise InputError(
            name, expected="at least one image", received="none", do=f"Looked for {', '.join(image_suffixes())}."
        )
    headers, skipped = _read_headers(images, options)
    if not any(headers):
        raise _none_readable(name, len(headers))
    first = next(place for place, header in enumerate(headers) if header is not None)
    kept = np.array([header is not None for header in headers])
    auto = "L" if all(header is None or is_gray(header.mode) for header in headers) else "RGB"
    rules = ReadingRules(auto if options.mode == "auto" else options.mode, options.image_size)
    for place, header in enumerate(headers):
        if header is not None and rules.image_size is None and header.size != headers[first].size:
            raise _other_size(images.names[place], header.size, images.names[first], headers[first].size)
    side = rules.image_size
    size = headers[first].size if side is None else (side, side)
    places = np.flatnonzero(kept)
    array = new_pixels((len(places), *size) if rules.mode == "L" else (len(places), *size, 3), name)
    budget = _Budget(_DECODING_PIXELS)

    def decode(row: int) -> str | None:
        place = int(places[row])
        height, width = headers[place].size
        with budget.share(height * width):
            try:
                content = images.read(place)
                with open_image(content, images.names[place]) as image:
                    pixels = pixels_of(image, rules, content)
            except MemoryError as error:
                raise _no_memory(images.names[place], f"{width}x{height} pixels") from error
            except Exception as error:  # decoders raise whatever comes to them from damaged bytes
                return _reason(error)
        if pixels.shape != array.shape[1:]:
            return f"{pixels.shape[1]}x{pixels.shape[0]} pixels where its header says {width}x{height}"
        array[row] = pixels
        return None

    with Progress(f"reading {name}", len(places), "images", show=options.progress) as bar, _pool() as pool:
        for row, reason in enumerate(pool.map(decode, range(len(places)))):
            bar.advance()
            if reason is not None:
                skipped.append(_bad_image(images.names[places[row]], reason, options.skip_bad))
                kept[places[row]] = False
    if not kept.any():
        raise _none_readable(name, len(kept))
    good = kept[places]
    remaining = [headers[place] for place in np.flatnonzero(kept)]
    return _finish(array if good.all() else array[good], images, kept, remaining, skipped, name=name, rules=rules)


class PictureCollector:
    """Collects pictures that are decoded already, one after the other, into one array.

    Args:
        name: what the source is called in messages.
        count: how many there will be.
        options: mode and size, and whether unreadable images are left out.
    """

    def __init__(self, name: str, count: int, options: ReadingOptions) -> None:
        self.name, self.count, self.options = name, count, options
        self.rules = ReadingRules(options.mode, options.image_size)
        self.kept = np.zeros(count, bool)
        self.headers: list[Header] = []
        self.skipped: list[tuple[str, str]] = []
        self._array: np.ndarray | None = None
        self._first = ""

    def add(self, place: int, name: str, picture: Callable[[], tuple[Image.Image, bytes]]) -> None:
        """Decode one picture.

        Raises:
            InputError: it is unreadable and may not be left out, or has another size than the first.
        """
        try:
            image, content = picture()
            header, pixels = header_of(image, content), pixels_of(image, self.rules, content)
        except MemoryError as error:
            raise _no_memory(name, "an image") from error
        except Exception as error:  # decoders raise whatever comes to them from damaged bytes
            self.skipped.append(_bad_image(name, _reason(error), self.options.skip_bad))
            return
        if self._array is None:
            self._array, self._first = new_pixels((self.count, *pixels.shape), self.name), name
        elif pixels.shape[:2] != self._array.shape[1:3]:
            raise _other_size(name, pixels.shape[:2], self._first, self._array.shape[1:3])
        if pixels.ndim == 3 and self._array.ndim == 3:
            gray, self._array = self._array, new_pixels((*self._array.shape, 3), self.name)
            self._array[: len(self.headers)] = gray[: len(self.headers), ..., None]
        row = len(self.headers)
        self._array[row] = pixels if pixels.ndim == self._array.ndim - 1 else pixels[..., None]
        self.headers.append(header)
        self.kept[place] = True

    def source(self, names: Sequence[str], labels: Labels, passed: PassedOver) -> "ImageSource":
        """What was collected.

        Raises:
            InputError: nothing was.
        """
        if self._array is None:
            raise _none_readable(self.name, self.count)
        images = EncodedImages(names, lambda place: b"", labels, passed)
        mode = "L" if self._array.ndim == 3 else "RGB"
        array = self._array if self.kept.all() else self._array[: len(self.headers)]
        rules = ReadingRules(mode, self.rules.image_size)
        return _finish(array, images, self.kept, self.headers, self.skipped, name=self.name, rules=rules)


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


def new_pixels(shape: tuple[int, ...], name: str, dtype: Any = np.uint8) -> np.ndarray:
    """An empty array, in memory up to 2 GiB, beyond it in a temporary memory map.

    Raises:
        InputError: there is no room for it.
    """
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.float64)) * dtype.itemsize
    try:
        if size <= BYTES_IN_MEMORY:
            return np.empty(shape, dtype)
        with tempfile.NamedTemporaryFile(prefix="memfast-", suffix=".pixels") as file:
            return np.memmap(file, dtype=dtype, mode="w+", shape=shape)
    except (MemoryError, OSError, ValueError, OverflowError) as error:
        raise _no_memory(name, f"{size / 2**30:,.1f} GiB of items") from error


def _finish(
    array: np.ndarray, images: EncodedImages, kept: np.ndarray, headers: Sequence[Header],
    skipped: list[tuple[str, str]], *, name: str, rules: ReadingRules,
) -> ImageSource:  # fmt: skip
    names, labels, passed = images.names, images.labels, images.passed
    if not kept.all():
        names = [names[int(place)] for place in np.flatnonzero(kept)]
    for one, _ in skipped:
        passed.add(UNREADABLE, one)
    for place, header in enumerate(headers):
        if header.frames > 1:
            passed.add(LATER_FRAMES, str(names[place]), header.frames - 1)
    values = None if labels.values is None else labels.values[kept]
    source = ImageSource(array, name=name, labels=values, names=names, skipped=skipped)
    source.class_names, source.rules = labels.class_names, rules
    source.original_modes = dict(Counter(header.mode for header in headers))
    source.turned = sum(is_turned(header.orientation) for header in headers)
    source.side = rules.image_size
    return source


def _read_headers(images: EncodedImages, options: ReadingOptions) -> tuple[list[Any], list[tuple[str, str]]]:
    """The header of each image, or None where it is unreadable."""

    def header(place: int) -> Header | str:
        try:
            content = images.read(place)
            with open_image(content, images.names[place]) as image:
                return header_of(image, content)
        except MemoryError as error:
            raise _no_memory(images.names[place], "its file") from error
        except Exception as error:  # decoders raise whatever comes to them from damaged bytes
            return _reason(error)

    skipped: list[tuple[str, str]] = []
    headers: list[Header | None] = []
    with _pool() as pool:
        for place, found in enumerate(pool.map(header, range(len(images.names)))):
            if isinstance(found, str):
                skipped.append(_bad_image(images.names[place], found, options.skip_bad))
            headers.append(None if isinstance(found, str) else found)
    return headers, skipped


class _Budget:
    """Lets threads decode at the same time what fits together; one image larger than that is decoded alone."""

    def __init__(self, total: int) -> None:
        self._total, self._used, self._free = total, 0, Condition()

    @contextmanager
    def share(self, amount: int) -> Iterator[None]:
        with self._free:
            self._free.wait_for(lambda: self._used == 0 or self._used + amount <= self._total)
            self._used += amount
        try:
            yield
        finally:
            with self._free:
                self._used -= amount
                self._free.notify_all()


def _none_readable(name: str, count: int) -> InputError:
    return InputError(name, expected="at least one readable image", received=f"{count} unreadable ones")


def _bad_image(name: str, reason: str, skip_bad: bool) -> tuple[str, str]:
    if not skip_bad:
        raise InputError(
            name, expected="a readable image", received=reason,
            do="Repair or remove it, or pass skip_bad=True (--skip-bad) to leave such images out and count them.",
        )  # fmt: skip
    return name, reason


def _other_size(name: str, size: Sequence[int], first: str, expected: Sequence[int]) -> InputError:
    return InputError(
        name, expected=f"{expected[1]}x{expected[0]} pixels, as {first}", received=f"{size[1]}x{size[0]}",
        do="Bring all images to one size, or pass image_size (--image-size) to crop and resize them.",
    )  # fmt: skip


def _no_memory(name: str, what: str) -> InputError:
    return InputError(
        name, expected=f"enough memory for {what}", received="none left",
        do="Make the images smaller, read fewer at a time, or free memory.",
    )  # fmt: skip


def _reason(error: BaseException) -> str:
    return first_line(error)


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1))
