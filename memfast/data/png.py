"""What Pillow does not check or tell of a PNG: checksums, missing rows, and whether something says how it is turned."""

import zlib

import numpy as np
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"
MOST_CHUNKS = 100_000  # encoders write chunks of 8 kB and more; millions of empty ones take minutes
_PNG_CHANNELS = {2: 3, 4: 2, 6: 4}  # of its colour types; the others have one
# First column, first row, and the steps between columns and rows, of the seven passes of an interlaced PNG.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_CHUNK = 1 << 20
_MOST_DEFLATED = 1032  # bytes that one byte of deflate can stand for


def check_png(content: bytes) -> None:
    """Check the encoded image before it is opened; other formats pass.

    Raises:
        ValueError: a chunk that decides on pixels has a wrong checksum, or there are far too few pixels.
    """
    if not content.startswith(PNG):
        return
    view, packed, unpacked = memoryview(content), 0, 0
    for kind, start, end in _chunks(content):
        if kind[:1].isupper() or kind in (b"tRNS", b"eXIf", b"fdAT", b"acTL", b"fcTL"):
            checksum = int.from_bytes(content[end : end + 4], "big")
            if zlib.crc32(view[start - 4 : end]) != checksum:
                raise ValueError(f"a {kind.decode('latin-1')} chunk with a wrong checksum")
        if kind == b"IHDR" and end - start == 13:
            unpacked = _bytes_of_rows(content[start:end])
        packed += end - start if kind == b"IDAT" else 0
    if unpacked > _MOST_DEFLATED * packed:
        raise _too_few_pixels(packed, unpacked)


def check_every_row(image: Image.Image, content: bytes) -> None:
    """Check that a PNG's data reaches its last row: Pillow leaves the rest black without a word.

    What is missing is zero and reaches the last row; with interlacing, some pixels of the last two rows. Only then is
    the data unpacked again and counted.

    Args:
        image: the decoded image.
        content: its encoded bytes.

    Raises:
        ValueError: the data ends early.
    """
    last = np.asarray(image.crop((0, max(0, image.height - 2), image.width, image.height)))
    if last.reshape(last.shape[0] * last.shape[1], -1).any(axis=1).all():
        return
    needed, found = 0, 0
    inflater = zlib.decompressobj()
    for kind, start, end in _chunks(content):
        if kind == b"IHDR":
            needed = _bytes_of_rows(content[start:end])
        if kind != b"IDAT":
            continue
        rest = content[start:end]
        while rest and found < needed and not inflater.eof:
            found += len(inflater.decompress(rest, _CHUNK))
            rest = inflater.unconsumed_tail
    if found < needed:
        raise _too_few_pixels(found, needed)


def says_orientation(content: bytes) -> bool:
    """Whether a chunk holds EXIF or XMP, which may state an orientation."""
    for kind, start, end in _chunks(content):
        if kind == b"eXIf":
            return True
        keyword = content[start : min(end, start + 80)].split(b"\0", 1)[0]
        if kind in (b"tEXt", b"zTXt", b"iTXt") and keyword in (b"Raw profile type exif", b"XML:com.adobe.xmp"):
            return True
    return False


def _chunks(content: bytes) -> list[tuple[bytes, int, int]]:
    """Type, start and end of the content of each whole chunk of a PNG."""
    found, at = [], len(PNG)
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        kind, start = content[at + 4 : at + 8], at + 8
        if start + length + 4 > len(content):
            break
        found.append((kind, start, start + length))
        if len(found) > MOST_CHUNKS:
            raise ValueError(f"more than {MOST_CHUNKS:,} chunks")
        if kind == b"IEND":
            break
        at = start + length + 4
    return found


def _bytes_of_rows(header: bytes) -> int:
    """How many bytes the rows of a PNG with this header take before they are packed, each with its filter byte."""
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = header[8] * _PNG_CHANNELS.get(header[9], 1)
    total = 0
    for left, top, across, down in _PASSES if header[12] else ((0, 0, 1, 1),):
        columns, rows = -((left - width) // across), -((top - height) // down)
        total += rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0
    return total


def _too_few_pixels(found: int, needed: int) -> ValueError:
    return ValueError(f"{found:,} bytes of pixels where its header asks for {needed:,}")
