"""Hostile and damaged files: refused with one clear error, without running, hanging or filling memory."""

import io
import os
import resource
import struct
import subprocess
import sys
import textwrap
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from memfast.data import open_source
from memfast.foundation.errors import InputError, MemfastError
from tests.data.data_containers import encoded, gray, reasons, write_folder, write_tar, write_zip

PNG = encoded(gray(7))
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(ran) (/tmp/never) file\nshowpage\n%%EOF\n"


def limited(code, *, memory=None, files=None, timeout=120):
    """Run code in a process of its own under limits, and give what it prints."""

    def limits():
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=timeout,
        preexec_fn=limits, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.tga", "a.webp"])
def test_postscript_is_never_opened(name, tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    def ran(*_, **__):
        raise AssertionError("Ghostscript was called")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ran)
    write_folder(tmp_path / "d", {name: EPS})
    for data in (tmp_path / "d", write_zip(tmp_path / "a.zip", {name: EPS}), [EPS]):
        with pytest.raises(InputError, match=r"a readable image, received (bytes that are not an image|not a TGA)"):
            open_source(data)


@pytest.mark.parametrize("name", ["a.npy", "a.png", "a.parquet", "a.zip", "a.tar", "a.csv", "a.pt"])
def test_a_pipe_is_refused_at_once(name, tmp_path):
    os.mkfifo(tmp_path / name)
    for data in (tmp_path / name, [tmp_path / name]):
        with pytest.raises(InputError, match="expected a file or folder, received a pipe, socket or device"):
            open_source(data)


def test_a_device_is_refused():
    with pytest.raises(InputError, match="a pipe, socket or device"):
        open_source("/dev/zero")


def test_a_path_with_a_null_byte():
    with pytest.raises(InputError, match="nothing there"):
        open_source("a\0b")


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"tRNS", b"PLTE", b"IEND"])
def test_a_png_with_a_wrong_checksum_is_unreadable(kind, tmp_path):
    image = gray(7).convert("P")
    image.info["transparency"] = 3
    whole = bytearray(encoded(image, transparency=3))
    place = whole.find(kind)
    length = int.from_bytes(whole[place - 4 : place], "big")
    whole[place + 4 + length] ^= 1
    with pytest.raises(InputError, match=r"wrong checksum|broken PNG"):
        open_source([bytes(whole)])
    write_folder(tmp_path / "d", {"a.png": bytes(whole), "b.png": PNG})
    assert reasons(open_source(tmp_path / "d", skip_bad=True)) == {"unreadable images": 1}


def test_other_pixels_under_the_old_checksum_are_unreadable():
    def chunk(kind, content, checksum=None):
        checksum = zlib.crc32(kind + content) if checksum is None else checksum
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, 8, 0, 0, 0, 0))
    pixels, others = (zlib.compress(b"\0" + bytes(values)) for values in ([1, 2, 3, 4], [9, 9, 9, 9]))
    start, end = b"\x89PNG\r\n\x1a\n" + header, chunk(b"IEND", b"")
    right = start + chunk(b"IDAT", pixels) + end
    wrong = start + chunk(b"IDAT", others, zlib.crc32(b"IDAT" + pixels)) + end
    assert open_source([right]).block(0, 1).ravel().tolist() == [1, 2, 3, 4]
    with pytest.raises(InputError, match="a IDAT chunk with a wrong checksum"):
        open_source([wrong])


def test_an_arrow_file_with_wrong_offsets_is_refused(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="the package pyarrow is not installed")
    table = pa.table({"image": [PNG] * 4, "label": [0, 1, 2, 3]})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    whole = bytearray((tmp_path / "a.arrow").read_bytes())
    offsets = np.arange(5, dtype="<i4") * len(PNG)
    place = bytes(whole).find(offsets.tobytes())
    assert place > 0
    whole[place + 8 : place + 12] = struct.pack("<i", 2**30)
    (tmp_path / "a.arrow").write_bytes(whole)
    with pytest.raises(InputError, match="readable parquet or arrow files"):
        open_source(tmp_path / "a.arrow")


def test_a_tensor_that_repeats_one_value_for_ever_is_refused(tmp_path):
    torch.save(torch.zeros(1).expand(2**30, 2**12), tmp_path / "a.pt")
    with pytest.raises(InputError, match="repeats the 4 it stores"):
        open_source(tmp_path / "a.pt")
    torch.save(torch.zeros(1).expand(3, 5), tmp_path / "b.pt")
    assert open_source(tmp_path / "b.pt").item_shape == (5,)


def test_millions_of_nulls_in_a_small_parquet_are_refused(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="the package pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="the package pyarrow is not installed")
    column = pa.array([None], pa.struct([("bytes", pa.binary()), ("path", pa.string())])).take(pa.array([0] * 10**6))
    parquet.write_table(pa.table({"image": column, "label": pa.nulls(10**6, pa.int64())}), tmp_path / "a.parquet")
    for options in ({}, {"skip_bad": True}):
        with pytest.raises(InputError, match="received 1,000,000 empty rows"):
            open_source(tmp_path / "a.parquet", **options)


@pytest.mark.parametrize("kind", ["npy", "npz-each", "tar", "zip"])
def test_many_files_need_few_descriptors(kind, tmp_path):
    folder, count = tmp_path / "d", 150
    folder.mkdir()
    for number in range(count):
        if kind == "npy":
            np.save(folder / f"{number}.npy", np.full((2 + number % 2, 4, 4), number % 256, np.uint8))
        elif kind == "npz-each":
            np.savez(folder / f"{number}.npz", latents=np.full((4, 6, 6), number % 256, np.float32))
        else:
            (write_tar if kind == "tar" else write_zip)(folder / f"{number}.{kind}", {"a.png": encoded(gray(number))})
    code = f"""
        from memfast.data import open_source
        import numpy as np
        source = open_source({str(folder)!r})
        first = source.block(0, len(source)).reshape(len(source), -1)[:, 0]
        print(len(source), int(source.take(np.arange(len(source))).astype(float).sum()) > 0, len(set(first.tolist())))
    """
    expected = {"npy": 375}.get(kind, 150)
    assert limited(code, files=64) == f"{expected} True 150"


LITTLE_LEFT = """
        import resource
        from memfast.data import open_source
        from memfast.foundation.errors import MemfastError
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (150 << 20), used + (150 << 20)))
        try:
            print(len(open_source(DATA)))
        except MemfastError as error:
            print("refused:", error)
"""


def test_large_images_in_little_memory_are_an_error_of_ours(tmp_path):
    content = encoded(Image.new("L", (9400, 9400)), compress_level=1)
    folder = write_folder(tmp_path / "d", {"a.png": content, "b.png": content})
    for options in ("", ", skip_bad=True"):
        found = limited(LITTLE_LEFT.replace("DATA", repr(str(folder)) + options))
        assert found.startswith("refused:")
        assert "memory" in found


def test_a_large_npy_in_little_memory_is_an_error_of_ours(tmp_path):
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (300_000, 64, 64)})
        file.truncate(file.tell() + 300_000 * 64 * 64)
    assert limited(LITTLE_LEFT.replace("DATA", repr(str(tmp_path / "a.npy")))).startswith("refused:")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", "empty items"), ("a.zip", "version"), ("a.tar.xz", "cut"), ("a.tar.bz2", "cut"), ("a.npz", "json"),
        ("a.safetensors", "deep"), ("a.parquet", "nothing"), ("a.arrow", "nothing"),
    ],
)  # fmt: skip
def test_damage_that_used_to_be_a_traceback(name, content, tmp_path):
    path = tmp_path / name
    if content == "empty items":
        np.save(path, np.zeros((4, 0), np.float32))
    elif content == "version":
        write_zip(path, {"a.png": PNG})
        whole = bytearray(path.read_bytes())
        for place in (whole.find(b"PK\x01\x02") + 6, 4):
            whole[place] = 123
        path.write_bytes(whole)
    elif content == "cut":
        write_tar(path, {"a.png": os.urandom(3000)}, "w:" + name.rsplit(".", 1)[1])
        path.write_bytes(path.read_bytes()[:-900])
    elif content == "deep":
        header = b'{"a":' + b"[" * 100_000
        path.write_bytes(struct.pack("<Q", len(header)) + header)
    elif content == "json":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", b"\x93NUMPY\1\0\x10\0" + b"(" * 16)
    else:
        path.write_bytes(b"")
    with pytest.raises(InputError) as caught:
        open_source(path)
    assert "\n" not in str(caught.value)


def test_a_csv_in_a_zip_may_pack_well_and_so_may_a_white_bitmap(tmp_path):
    bitmap = io.BytesIO()
    Image.new("RGB", (1500, 1500), "white").save(bitmap, "BMP")
    table = b"file,label\n" + b"a.bmp,0\n" * 400_000
    write_zip(tmp_path / "a.zip", {"a.bmp": bitmap.getvalue(), "labels.csv": table})
    source = open_source(tmp_path / "a.zip")
    assert (len(source), reasons(source)) == (1, {".csv files in an archive": 1})


def test_objects_in_another_array_do_not_hide_the_one_that_was_named(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 4, 4), np.uint8), other=np.array([{"a": 1}], object))
    assert len(open_source(f"{tmp_path}/a.npz::x")) == 2
    with pytest.raises(InputError, match="without pickles"):
        open_source(f"{tmp_path}/a.npz::other")


def test_reading_leaves_the_warning_filters_alone(tmp_path):
    import warnings

    before = list(warnings.filters)
    open_source(write_folder(tmp_path / "d", {f"{number}.png": PNG for number in range(20)}))
    assert warnings.filters == before


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"repeats": 3}', b'{"hash": 1, "repeats": [1, 2]}', b"[" * 100_000, b"\xff"],
)
def test_damaged_canaries_are_an_error_of_ours(content, tmp_path):
    from memfast.data.canaries import Canaries

    Canaries(np.zeros((1, 4, 4), np.uint8), repeats=2).save(tmp_path)
    assert Canaries.load(tmp_path).repeats.tolist() == [2]
    (tmp_path / "canaries.json").write_bytes(content)
    with pytest.raises(MemfastError, match=r"canaries\.json"):
        Canaries.load(tmp_path)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_small_files_that_would_take_minutes_are_refused():
    drawn = encoded(Image.new("L", (4000, 4000), 128), "JPEG", progressive=True)
    last = drawn.rindex(b"\xff\xda")
    scans = drawn[:-2] + drawn[last:-2] * 100 + drawn[-2:]
    png = encoded(gray(1))
    place = png.index(b"IDAT") - 4
    chunks = png[:place] + chunk(b"tEXt", b"a\0b") * 100_001 + png[place:]
    page = struct.pack("<HHHIIHHIIHHIII", 3, 256, 4, 1, 8, 257, 4, 1, 8, 273, 4, 1, 8, 0)
    tiff = bytearray(encoded(gray(1), "TIFF"))
    start = len(tiff) + len(tiff) % 2
    at = _end_of_first_page(tiff)
    tiff[at : at + 4] = struct.pack("<I", start)
    tiff += bytes(start - len(tiff))
    for number in range(10_001):
        tiff += page[:-4] + struct.pack("<I", start + (number + 1) * len(page))
    for content, message in ((scans, "scans of 4000x4000"), (chunks, "100,000 chunks"), (bytes(tiff), "10,000 pages")):
        with pytest.raises(InputError, match=message):
            open_source([content])
    assert open_source([drawn]).item_shape == (4000, 4000)


def _end_of_first_page(tiff):
    place = struct.unpack_from("<I", tiff, 4)[0]
    return place + 2 + 12 * struct.unpack_from("<H", tiff, place)[0]
