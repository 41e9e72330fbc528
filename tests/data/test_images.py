"""Images of every depth and orientation become the same pixels, or are refused; nothing is scaled by what it holds."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from memfast.data import open_source
from memfast.foundation.errors import InputError

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
        with pytest.raises(InputError, match=r"a F image of .*, no whole numbers of 0 to 255"):
            write(tmp_path / name, Image.fromarray(values.astype(np.float32)), "a.tif")
    with pytest.raises(InputError, match=r"a I image of .*, no whole numbers of 0 to 255"):
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
