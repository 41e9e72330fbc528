"""Archives that lost something are refused, and a bad member is one bad image."""

import gzip
import io
import tarfile
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from memfast.data import open_source
from memfast.foundation.errors import InputError

ITEMS = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


def png(item):
    content = io.BytesIO()
    Image.fromarray(item).save(content, "PNG")
    return content.getvalue()


def write_zip(path, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for number, item in enumerate(ITEMS):
            archive.writestr(f"{number}.png", png(item))
    return path


def write_tar(path):
    with tarfile.open(path, "w") as archive:
        for number, item in enumerate(ITEMS):
            content = png(item)
            info = tarfile.TarInfo(f"{number}.png")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def damage(path, where, content):
    whole = bytearray(path.read_bytes())
    whole[where : where + len(content)] = content
    path.write_bytes(whole)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["checksum", "deflate"])
def test_a_damaged_member_of_a_zip_is_one_bad_image(compression, tmp_path):
    path = write_zip(tmp_path / "a.zip", compression)
    damage(path, path.read_bytes().find(b"1.png") + 5, b"\xff" * 400)
    with pytest.raises(InputError, match=r"1\.png: expected a readable image.*skip_bad"):
        open_source(path)
    source = open_source(path, skip_bad=True)
    np.testing.assert_array_equal(source.block(0, 2), ITEMS[[0, 2]])
    assert [name for name, _ in source.skipped] == ["1.png"]


def test_an_encrypted_zip_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip")
    damage(path, path.read_bytes().find(b"PK\x01\x02") + 8, b"\x01")
    with pytest.raises(InputError, match=r"member '0\.png': expected an archive without a password"):
        open_source(path)


def test_two_members_of_one_name_are_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip")
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("1.png", png(ITEMS[0]))
    with pytest.raises(InputError, match=r"member '1\.png': expected each name once"):
        open_source(path)


def test_a_tar_cut_or_damaged_between_its_members_is_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar")
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        second = archive.getmember("1.png").offset
    cut_in_a_header, cut_at_a_header = whole[: second + 100], whole[:second]
    damaged_header = whole[:second] + b"x" * 512 + whole[second + 512 :]
    for content in (cut_in_a_header, cut_at_a_header, damaged_header):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"whole tar archive.*damage or a cut at byte {second:,}"):
            open_source(path, skip_bad=True)
    path.write_bytes(whole)
    assert len(open_source(path)) == 3


def test_a_folder_of_tar_shards_reads_as_one_set(tmp_path):
    (tmp_path / "shards").mkdir()
    for number in (1, 0):
        path = write_tar(tmp_path / f"shards/{number}.tar")
        with tarfile.open(path, "a") as archive:
            for item in range(3):
                info = tarfile.TarInfo(f"{item}.cls")
                info.size = 1
                archive.addfile(info, io.BytesIO(str(item + number).encode()))
    source = open_source(tmp_path / "shards")
    np.testing.assert_array_equal(source.block(0, 6), np.concatenate([ITEMS, ITEMS]))
    assert source.labels.tolist() == [0, 1, 2, 1, 2, 3]
    assert [source.item_name(index) for index in (0, 5)] == ["0.tar/0.png", "1.tar/2.png"]
    Image.fromarray(ITEMS[0]).save(tmp_path / "shards/a.png")
    source = open_source(tmp_path / "shards")
    assert (len(source), [(one.reason, one.names) for one in source.not_read]) == (6, [(".png files", ("a.png",))])


def test_a_damaged_compressed_tar_is_refused(tmp_path):
    whole = gzip.compress(write_tar(tmp_path / "a.tar").read_bytes())
    (tmp_path / "a.tgz").write_bytes(whole)
    assert len(open_source(tmp_path / "a.tgz")) == 3
    for content in (whole[:-300], whole[:400] + b"x" * 60 + whole[460:]):
        (tmp_path / "a.tgz").write_bytes(content)
        with pytest.raises(InputError):
            open_source(tmp_path / "a.tgz")
