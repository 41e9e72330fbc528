"""One image becomes pixels by the same rules wherever it came from: a file, an archive, a table, a list."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from memfast.data.png import PNG, check_every_row, check_png, says_orientation

# Only these formats may be opened: EPS would start Ghostscript, and PDF and video are not images.
FORMATS = {
    "PNG": (".png", ".apng"), "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), "BMP": (".bmp",),
    "DIB": (".dib",), "GIF": (".gif",), "TIFF": (".tif", ".tiff"), "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"), "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"), "QOI": (".qoi",), "PCX": (".pcx",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"), "JXL": (".jxl",), "HEIF": (".heic", ".heif", ".hif"),
}  # fmt: skip
# TGA files have no signature: only the suffix can tell.
BY_SUFFIX_ONLY = {"TGA": (".tga", ".icb", ".vda", ".vst")}
PLUGINS = {"JXL": ("pillow_jxl", "pillow-jxl-plugin"), "HEIF": ("pillow_heif", "pillow-heif")}

MAX_PIXELS = 89_478_485  # Pillow's own limit
# Small files that would take minutes: encoders write some ten scans.
MOST_SCANS, MOST_SCANNED_PIXELS = 64, 1_000_000_000
MOST_PAGES = 10_000
SIXTEEN_BIT_MODES = {"I;16", "I;16L", "I;16B", "I;16N"}
GRAY_MODES = {"1", "L", "I", "F", "LA", "La", *SIXTEEN_BIT_MODES}


@dataclass(frozen=True)
class ReadingRules:
    """How images become pixels.

    Attributes:
        mode: ``"L"``, ``"RGB"``, or ``"auto"``: gray images stay gray.
        image_size: the side of the centre square crop that is resized (Lanczos), or None.
        upright: images are turned as their EXIF or XMP says.
    """

    mode: str = "auto"
    image_size: int | None = None
    upright: bool = True


@dataclass(frozen=True)
class Header:
    """What is known of an image before its pixels are decoded.

    Attributes:
        size: height and width of the upright image.
        mode: Pillow's mode; ``"LA"`` also for gray with transparency of 16 bits, which Pillow opens as RGBA.
        orientation: EXIF's number, 1 for upright.
        frames: pictures or pages in the file; the first is read.
    """

    size: tuple[int, int]
    mode: str
    orientation: int
    frames: int


def image_suffixes() -> tuple[str, ...]:
    """The suffixes of the image files that can be read here; those of optional plug-ins only where they are installed.

    >>> ".png" in image_suffixes(), ".eps" in image_suffixes()
    (True, False)
    """
    return tuple(suffix for name, suffixes in _readable().items() for suffix in suffixes)


def is_image_name(name: str) -> bool:
    """Whether a file's name ends like an image's that can be read, and is not hidden."""
    return name.lower().endswith(image_suffixes()) and not name.rsplit("/", 1)[-1].startswith(".")


def open_image(content: bytes, name: str = "") -> Image.Image:
    """An image from bytes, by its signature, or by its suffix where its format has no signature.

    Raises:
        OSError, ValueError, SyntaxError: it is damaged, of another format, or too large.
    """
    formats = _readable()
    allowed = [
        one for one, suffixes in formats.items()
        if one in Image.OPEN and (one not in BY_SUFFIX_ONLY or name.lower().endswith(suffixes))
    ]  # fmt: skip
    check_png(content)
    try:
        image = Image.open(io.BytesIO(content), formats=allowed)
    except UnidentifiedImageError as error:
        raise ValueError("bytes that are not an image") from error
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels are over the limit of {MAX_PIXELS:,}")
    scans = content.count(b"\xff\xda") if image.format in ("JPEG", "MPO") else 0
    if scans > MOST_SCANS and scans * image.width * image.height > MOST_SCANNED_PIXELS:
        raise ValueError(f"{scans:,} scans of {image.width}x{image.height} pixels, more than any encoder writes")
    return image


def header_of(image: Image.Image, content: bytes = b"") -> Header:
    """Size, mode, orientation and number of frames of an opened image."""
    orientation = orientation_of(image, content)
    height, width = (image.width, image.height)[:: 1 if orientation in _ON_THEIR_SIDE else -1]
    return Header((height, width), _mode(image), orientation, _frames(image))


def is_gray(mode: str) -> bool:
    """Whether images of this Pillow mode have no colour."""
    return mode in GRAY_MODES


def pixels_of(image: Image.Image, rules: ReadingRules, content: bytes = b"") -> np.ndarray:
    """An image's pixels, uint8 ``[H, W]`` or ``[H, W, 3]``.

    Turned upright, of 16 bits the upper 8, transparency on white, then one mode and one size.

    Args:
        image: any Pillow image.
        rules: mode and size.
        content: the encoded image, which tells sooner whether a PNG says how it is turned.

    Raises:
        OSError, ValueError, SyntaxError: it cannot be decoded, or its values are not pixels.
    """
    turn = _TURNS.get(orientation_of(image, content))
    gray = rules.mode == "L" or (rules.mode == "auto" and is_gray(_mode(image)))
    see_through = _transparent_value(image, content)
    image.load()
    if content.startswith(PNG):
        check_every_row(image, content)
    if image.mode in ("I", "F") or image.mode in SIXTEEN_BIT_MODES or _signed(image):
        image = _to_eight_bits(image)
    elif image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    elif isinstance(see_through, np.ndarray):
        image = Image.fromarray(np.where(see_through[..., None], np.uint8(255), np.asarray(image)))
    elif see_through is not None and see_through != image.info.get("transparency"):
        image = image.copy()
        image.info["transparency"] = see_through
    if turn is not None:
        image = image.transpose(turn)
    if "A" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    image = image.convert("L" if gray else "RGB")
    if rules.image_size is not None:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        image = image.resize((rules.image_size, rules.image_size), Image.Resampling.LANCZOS, box=box)
    return np.asarray(image, dtype=np.uint8)


# EXIF's orientations other than upright, and what undoes them.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_ON_THEIR_SIDE = (5, 6, 7, 8)
_ORIENTATION = 0x0112
_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339


def orientation_of(image: Image.Image, content: bytes = b"") -> int:
    """The orientation that EXIF or XMP states; 1, upright, where they state none or Pillow turns it itself (TIFF)."""
    if image.format == "TIFF" or (content.startswith(PNG) and not says_orientation(content)):
        return 1
    try:
        found = int(image.getexif().get(_ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:  # damaged metadata leaves the pixels intact
        return 1
    return found if found in _TURNS else 1


def is_turned(orientation: int) -> bool:
    """Whether an image of this orientation has to be turned to be upright."""
    return orientation in _TURNS


def _frames(image: Image.Image) -> int:
    try:
        return _pages(image) if image.format == "TIFF" else int(getattr(image, "n_frames", 1))
    except (MemoryError, _TooManyPages):
        raise
    except Exception:  # a damaged later picture leaves the first intact
        return 1


def _pages(image: Image.Image) -> int:
    """The pages of a TIFF, counted one by one: a small file can chain millions of them."""
    first, pages = image.tell(), 1
    try:
        while pages <= MOST_PAGES:
            image.seek(pages)
            pages += 1
        raise _TooManyPages(f"more than {MOST_PAGES:,} pages")
    except EOFError:
        return pages
    finally:
        image.seek(first)


class _TooManyPages(ValueError):
    """More pages than are counted."""


def _readable() -> dict[str, tuple[str, ...]]:
    global _KNOWN
    if _KNOWN is None:
        Image.init()
        for name, (module, _) in PLUGINS.items():
            _register(name, module)
        _KNOWN = {one: suffixes for one, suffixes in (FORMATS | BY_SUFFIX_ONLY).items() if one in Image.OPEN}
    return _KNOWN


_KNOWN: dict[str, tuple[str, ...]] | None = None


def _register(name: str, module: str) -> None:
    """Register a plug-in of Pillow where it is installed."""
    import importlib

    try:
        plugin = importlib.import_module(module)
    except ImportError:
        return
    if name == "HEIF":
        plugin.register_heif_opener()


def encoded_content(image: Image.Image) -> bytes:
    """The bytes of an image that was opened but is not decoded yet; nothing where they are out of reach."""
    file = getattr(image, "fp", None)
    if file is None or not getattr(image, "tile", None):
        return b""
    try:
        if image.tell() != 0:
            return b""
        place = file.tell()
        file.seek(0)
        content = file.read()
        file.seek(place)
    except (OSError, ValueError, EOFError, AttributeError):
        return b""
    return bytes(content)


def _mode(image: Image.Image) -> str:
    return "LA" if image.mode == "RGBA" and _raw_mode(image) == "LA;16B" else image.mode


def _raw_mode(image: Image.Image) -> str | None:
    """How the values of a PNG lie in its file, where it is not decoded yet."""
    tile = getattr(image, "tile", None) if image.format == "PNG" else None
    return tile[0][3] if tile and isinstance(tile[0][3], str) else None


def _transparent_value(image: Image.Image, content: bytes) -> int | bytes | tuple[int, ...] | np.ndarray | None:
    """The transparent value of a PNG as Pillow's converter needs it; of 16-bit colours, where they are transparent."""
    value = image.info.get("transparency")
    raw = _raw_mode(image)
    if isinstance(value, int) and raw in ("L;2", "L;4"):
        return value * (85 if raw == "L;2" else 17)  # Pillow spreads the pixels over 0..255, but not this value
    if not isinstance(value, tuple):
        return value
    if raw == "RGB;16B" and content.startswith(PNG):
        with Image.open(io.BytesIO(content), formats=["PNG"]) as high, Image.open(io.BytesIO(content)) as low:
            # Read as little-endian, the byte that Pillow keeps is the lower one.
            low.tile = [(*low.tile[0][:3], "RGB;16L")]  # type: ignore[list-item]
            found = np.asarray(high).astype(np.uint16) << 8 | np.asarray(low)
        return (found == np.array(value)).all(axis=-1)
    if max(value) > 255:
        raise ValueError("a transparent colour of 16 bits in an image that was decoded to 8; give its file instead")
    return value


def _tag(image: Image.Image, number: int) -> int | None:
    tags = getattr(image, "tag_v2", None)
    value = None if tags is None else tags.get(number)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else None


def _signed(image: Image.Image) -> bool:
    """Whether an 8-bit TIFF's values have a sign, which Pillow drops."""
    return image.mode == "L" and _tag(image, _SAMPLE_FORMAT) == 2


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """16-bit gray by its upper 8 bits; other deep images must hold whole numbers of 0..255.

    What an image holds never decides how it is scaled: a dark picture would come out as a bright one.
    """
    see_through = image.info.get("transparency")
    values = np.asarray(image)
    if _signed(image):
        values = values.view(np.int8)
    clear = values == see_through if isinstance(see_through, int) else None
    if image.mode in SIXTEEN_BIT_MODES or (image.mode == "I" and image.format in ("PNG", "PPM")):
        values = values.astype(np.int64)
        if image.mode in SIXTEEN_BIT_MODES and _tag(image, _PHOTOMETRIC) == 0:
            values = 65535 - values
        values = values >> 8
    whole = np.isfinite(values).all() and (values == np.rint(values)).all()
    fraction = values.dtype.kind == "f" and 0 < values.max(initial=0) <= 1
    if not whole or fraction or values.min() < 0 or values.max() > 255:
        raise ValueError(f"a {image.mode} image of {values.min():g} to {values.max():g}, not whole numbers of 0 to 255")
    values = values.astype(np.uint8)
    if clear is not None:
        values[clear] = 255
    return Image.fromarray(values)
