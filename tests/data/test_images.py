"""Images of every depth and orientation become the same pixels, or are refused; nothing is scaled by what it holds."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from memfast.data import open_source
from memfast.foundation.errors import InputError
from tests.data.data_containers import encoded

GRAY = np.random.default_rng(0).integers(0, 256, (12, 16), dtype=np.uint8)


def write(folder, image, name="a.png", **options):
    os.makedirs(folder, exist_ok=True)
    image.save(folder / name, **options)
    return open_source(folder)


def deep(values, mode, order):
    return Image.frombytes(mode, values.shape[::-1], values.astype(order).tobytes())


@pytest.mark.parametrize(
    ("mode", "order", "name"),
    [("I;16", "<u2", "a.png"), ("I;16", "<u2", "a.tif"), ("I;16B", ">u2", "a.tif")],
    ids=["png", "tiff", "big-endian tiff"],
)
@pytest.mark.parametrize("brightest", [255, 65535])
def test_sixteen_bits_give_their_upper_eight_however_dark_the_image(mode, order, name, brightest, tmp_path):
    values = np.random.default_rng(1).integers(0, brightest + 1, (12, 16)).astype(np.uint16)
    source = write(tmp_path / "d", deep(values, mode, order), name)
    np.testing.assert_array_equal(source.block(0, 1)[0], values >> 8)


def test_sixteen_bit_pgm(tmp_path):
    values = np.arange(192, dtype=np.uint16).reshape(12, 16) * 300
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.pgm").write_bytes(b"P5\n16 12\n65535\n" + values.astype(">u2").tobytes())
    np.testing.assert_array_equal(open_source(tmp_path / "d").block(0, 1)[0], values >> 8)


def test_float_images_are_taken_only_where_they_are_pixels(tmp_path):
    source = write(tmp_path / "pixels", Image.fromarray(GRAY.astype(np.float32)), "a.tif")
    np.testing.assert_array_equal(source.block(0, 1)[0], GRAY)
    for name, values in (
        ("fractions", GRAY / 255),
        ("mask", GRAY > 100),
        ("large", GRAY * 2.0),
        ("nan", np.where(GRAY > 9, np.nan, 1)),
    ):
        with pytest.raises(InputError, match=r"a F image of .*, not whole numbers of 0 to 255"):
            write(tmp_path / name, Image.fromarray(values.astype(np.float32)), "a.tif")
    with pytest.raises(InputError, match=r"a I image of .*, not whole numbers of 0 to 255"):
        write(tmp_path / "integers", Image.fromarray(GRAY.astype(np.int32) * 2), "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_images_are_turned_upright_as_pillow_turns_them(orientation, suffix, tmp_path):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    colour = Image.fromarray(np.stack([GRAY, GRAY // 2, 255 - GRAY], axis=2))
    source = write(tmp_path / "d", colour, f"a.{suffix}", exif=exif, **options)
    with Image.open(tmp_path / f"d/a.{suffix}") as image:
        image.load()
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(source.block(0, 1)[0], expected)
    if suffix != "tif":
        assert source.conversion == {"modes": {"RGB": 1}, "to": "RGB", "turned": int(orientation > 1), "side": None}


def test_a_turned_image_has_the_size_of_the_upright_one(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write(tmp_path / "d", Image.fromarray(GRAY), "a.jpg", exif=exif)
    Image.fromarray(GRAY.T.copy()).save(tmp_path / "d/b.png")
    source = open_source(tmp_path / "d")
    assert (source.item_shape, source.turned) == ((16, 12), 1)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_no_damage_of_the_pixels(tmp_path):
    content = io.BytesIO()
    Image.fromarray(GRAY).save(content, "JPEG", exif=b"Exif\0\0MM\0*nonsense")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.jpg").write_bytes(content.getvalue())
    assert open_source(tmp_path / "d").item_shape == (12, 16)


def test_what_was_done_to_images_is_told_of_those_that_were_kept(tmp_path):
    write(tmp_path / "d", Image.fromarray(GRAY))
    write(tmp_path / "d", Image.fromarray(GRAY).convert("RGBA"), "b.png")
    (tmp_path / "d/c.png").write_bytes((tmp_path / "d/b.png").read_bytes()[:-40])
    source = open_source(tmp_path / "d", skip_bad=True, image_size=8)
    assert source.conversion == {"modes": {"L": 1, "RGBA": 1}, "to": "RGB", "turned": 0, "side": 8}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 8}, r"image_size .*expected items of 8x8, received an array of items \[12, 16\]"),
        ({"mode": "RGB"}, r"mode .*expected images of mode RGB, received an array of items \[12, 16\]"),
        ({"mode": "RGBA"}, "mode: expected 'auto', 'L' or 'RGB', received 'RGBA'"),
    ],
    ids=["size", "mode", "unknown mode"],
)
def test_an_array_is_never_converted_and_says_so(options, message, tmp_path):
    np.save(tmp_path / "a.npy", GRAY[None])
    for data in (tmp_path / "a.npy", GRAY[None]):
        with pytest.raises(InputError, match=message):
            open_source(data, **options)


def test_an_array_that_is_as_asked_passes():
    assert open_source(GRAY[None, :, :12], image_size=12, mode="L").item_shape == (12, 12)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def raw_png(values, colour, extra=b"", after=b""):
    """A PNG of 8 or 16 bits with chunks of one's own."""
    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8 * values.dtype.itemsize, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in values))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + extra + chunk(b"IDAT", pixels) + after + chunk(b"IEND", b"")


def raw_tiff(values, photometric, sample_format):
    """A TIFF of one strip with tags of one's own."""
    content, (height, width) = values.tobytes(), values.shape
    tags = [
        (256, width), (257, height), (258, 8 * values.dtype.itemsize), (259, 1), (262, photometric), (273, 8), (277, 1),
        (278, height), (279, len(content)), (339, sample_format),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    start = b"II*\0" + struct.pack("<I", 8 + len(content)) + content
    return start + struct.pack("<H", len(tags)) + entries + bytes(4)


DEEP = (np.arange(12).reshape(3, 4) * 5000).astype(">u2")


def every_way(content, suffix, tmp_path):
    """The one image of this content, as a file, as bytes, as a picture and as a row of a table."""
    (tmp_path / "d").mkdir(exist_ok=True)
    (tmp_path / f"d/a.{suffix}").write_bytes(content)
    pa = pytest.importorskip("pyarrow", reason="the package pyarrow is not installed")
    found = [tmp_path / "d", [content], [Image.open(io.BytesIO(content))], pa.table({"image": [content]})]
    blocks = [open_source(data).block(0, 1)[0] for data in found]
    for block in blocks[1:]:
        np.testing.assert_array_equal(block, blocks[0])
    return blocks[0]


def test_sixteen_bit_gray_with_a_transparent_value_is_white_there(tmp_path):
    found = every_way(raw_png(DEEP, 0, chunk(b"tRNS", struct.pack(">H", 5000))), "png", tmp_path)
    np.testing.assert_array_equal(found, np.where(DEEP == 5000, 255, DEEP >> 8))


@pytest.mark.parametrize("see_through", [(5000, 2500, 1666), (1, 2, 3)], ids=["above 255", "below 256"])
def test_sixteen_bit_colour_with_a_transparent_value_is_white_there(see_through, tmp_path):
    colour = np.stack([DEEP, DEEP // 2, DEEP // 3], axis=-1).astype(">u2")
    colour[2, 2], colour[2, 3] = see_through, 257 * np.array(see_through) % 65536
    found = every_way(raw_png(colour, 2, chunk(b"tRNS", struct.pack(">HHH", *see_through))), "png", tmp_path)
    clear = (colour == see_through).all(axis=-1)
    assert clear.any()
    np.testing.assert_array_equal(found, np.where(clear[..., None], 255, colour >> 8))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_gray_of_few_bits_is_white(bits, tmp_path):
    values = np.random.default_rng(0).integers(0, 2**bits, (6, 8))
    values[0, 0] = 1
    row_bits = [[(value >> shift) & 1 for value in row for shift in range(bits)[::-1]] for row in values]
    rows = [b"\0" + np.packbits(row).tobytes() for row in row_bits]
    header = struct.pack(">IIBBBBB", 8, 6, bits, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tRNS", b"\0\1")
    content += chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(
        every_way(content, "png", tmp_path), np.where(values == 1, 255, values * (255 // (2**bits - 1)))
    )


def test_sixteen_bit_gray_with_transparency_stays_gray(tmp_path):
    values = np.stack([DEEP, np.full_like(DEEP, 65535)], axis=-1).astype(">u2")
    values[0, 0, 1] = 0
    found = every_way(raw_png(values, 4), "png", tmp_path)
    np.testing.assert_array_equal(found, np.where(values[..., 1] == 0, 255, values[..., 0] >> 8))


def interlaced(values):
    """The rows of the seven passes, each with its filter byte."""
    grids = (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    )
    parts = (values[y::down, x::across] for x, y, across, down in grids)
    return b"".join(b"\0" + row.tobytes() for part in parts for row in part if row.size)


@pytest.mark.parametrize("passes", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize("shape", [(13, 11, 3), (1, 9, 3), (9, 1, 3), (2, 2, 4)], ids=str)
def test_a_png_whose_data_ends_early_never_comes_out_partly_black(shape, passes):
    values = np.random.default_rng(0).integers(1, 256, shape).astype(np.uint8)
    height, width, channels = shape
    rows = interlaced(values) if passes else b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 8, {3: 2, 4: 6}[channels], 0, 0, int(passes))

    def content(length):
        packed = chunk(b"IDAT", zlib.compress(rows[:length]))
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + packed + chunk(b"IEND", b"")

    whole = open_source([content(len(rows))]).block(0, 1)[0]
    if channels == 3:
        np.testing.assert_array_equal(whole, values)
    for length in range(0, len(rows), 3):
        for given in (content(length), Image.open(io.BytesIO(content(length)))):
            with pytest.raises(InputError, match="expected a readable image"):
                open_source([given])


def test_a_black_png_is_whole():
    black = np.zeros((40, 30, 3), np.uint8)
    np.testing.assert_array_equal(open_source([encoded(Image.fromarray(black))]).block(0, 1)[0], black)


def test_a_picture_of_postscript_is_never_rendered():
    drawn = Image.open(io.BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n"))
    with pytest.raises(InputError, match="bytes that are not an image"):
        open_source([drawn])


def test_sixteen_bit_tiff_where_zero_is_white(tmp_path):
    found = every_way(raw_tiff(DEEP.astype("<u2"), 0, 1), "tif", tmp_path)
    np.testing.assert_array_equal(found, (65535 - DEEP.astype(int)) >> 8)


def test_signed_eight_bit_tiff(tmp_path):
    values = np.arange(12, dtype=np.int8).reshape(3, 4)
    np.testing.assert_array_equal(every_way(raw_tiff(values, 1, 2), "tif", tmp_path), values)
    for data in ([raw_tiff(values - 5, 1, 2)],):
        with pytest.raises(InputError, match="a L image of -5 to 6, not whole numbers of 0 to 255"):
            open_source(data)


@pytest.mark.parametrize("where", ["eXIf before", "eXIf after", "raw profile", "XMP"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_every_place_where_a_png_says_how_it_is_turned(where, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    values = (np.arange(12).reshape(3, 4) * 20).astype(np.uint8)
    before = after = b""
    if where == "eXIf before":
        before = chunk(b"eXIf", block)
    elif where == "eXIf after":
        after = chunk(b"eXIf", block)
    elif where == "raw profile":
        text = b"\nexif\n%8d\n" % (len(block) + 6) + (b"Exif\0\0" + block).hex().encode() + b"\n"
        before = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
    else:
        text = (
            b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>'
        )
        before = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + text % orientation)
    found = every_way(raw_png(values, 0, before, after), "png", tmp_path)
    np.testing.assert_array_equal(found, values[::-1, ::-1] if orientation == 3 else np.rot90(values, -1))


def test_modes_are_mixed_in_lists_as_in_folders(tmp_path):
    colour = np.stack([GRAY, GRAY // 2, 255 - GRAY], axis=2)
    alpha = np.concatenate([colour, GRAY[..., None]], axis=2)
    pictures = [
        Image.fromarray(GRAY),
        Image.fromarray(colour),
        Image.fromarray(alpha),
        Image.fromarray(colour).convert("CMYK"),
    ]
    for number, picture in enumerate(pictures):
        write(tmp_path / "d", picture, f"{number}.tif")
    expected = open_source(tmp_path / "d")
    for data in (
        pictures,
        [GRAY, *pictures[1:]],
        [(picture, 0) for picture in pictures],
        [GRAY, colour, alpha, pictures[3]],
    ):
        source = open_source(data)
        np.testing.assert_array_equal(source.block(0, 4), expected.block(0, 4))
        assert source.conversion["to"] == "RGB"
    np.testing.assert_array_equal(
        open_source(pictures, mode="L").block(0, 4), open_source(tmp_path / "d", mode="L").block(0, 4)
    )
    small = open_source([GRAY, colour], image_size=6)
    np.testing.assert_array_equal(small.block(0, 2), open_source(tmp_path / "d", image_size=6).block(0, 2))


def test_lists_of_arrays_of_one_shape_stay_as_they_are():
    for dtype in (np.uint8, np.float32, np.float64):
        items = [np.full((4, 6, 6), value, dtype) for value in (1, 2)]
        np.testing.assert_array_equal(open_source(items).block(0, 2), np.stack(items))
    with pytest.raises(InputError, match=r"list\[1\]: expected float32 \[4\] as the first item"):
        open_source([np.zeros(4, np.float32), np.zeros(5, np.float32)])


def test_pictures_of_other_sizes_in_a_list_are_named():
    with pytest.raises(InputError, match=r"list\[1\]: expected 16x12 pixels, as list\[0\], received 12x16"):
        open_source([Image.fromarray(GRAY), Image.fromarray(GRAY.T.copy())])


def test_a_png_that_cannot_hold_the_pixels_of_its_header_is_damaged():
    content = bytearray(raw_png(DEEP, 0))
    content[16:20] = struct.pack(">I", 8_000_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with pytest.raises(InputError, match=r"bytes of pixels where its header asks for 48,000,003"):
        open_source([bytes(content)])
    white = io.BytesIO()
    Image.new("RGB", (3000, 3000), "white").save(white, "PNG", compress_level=9)
    assert open_source([white.getvalue()]).item_shape == (3000, 3000, 3)
