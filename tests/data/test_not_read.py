"""Whatever is no item is counted and named with its reason, in every container."""

import os
import socket
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from memfast.data import NotRead, open_source
from memfast.foundation.errors import InputError
from tests.data.data_containers import encoded, gray, reasons, write_folder, write_tar, write_zip

PNG = encoded(gray(7))


def test_every_entry_of_a_folder_is_an_item_or_is_counted(tmp_path):
    folder = write_folder(
        tmp_path / "d",
        {
            "a.png": PNG, "b.PNG": PNG, "notes.txt": b"x", "LICENSE": b"x", ".hidden.png": PNG, "Thumbs.db": b"x",
            ".git/config": b"x", ".git/objects/ab": b"x", ".ipynb_checkpoints/a-checkpoint.png": PNG,
            "@eaDir/a.png": PNG, "__MACOSX/._a.png": b"x", "film.mp4": b"x",
        },
    )  # fmt: skip
    (folder / "broken.png").symlink_to("annex/objects/nothing")
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s.png"))
        source = open_source(folder)
    assert [source.item_name(at) for at in range(len(source))] == ["a.png", "b.PNG"]
    assert reasons(source) == {
        "hidden and system files": 7, "broken links": 1, "pipes, sockets and devices": 2, ".txt files": 1,
        "files without a suffix": 1, ".mp4 files": 1,
    }  # fmt: skip
    assert NotRead("broken links", 1, ("broken.png",)) in source.not_read
    assert source.labels is None


def test_names_of_what_was_passed_over_are_the_first_few(tmp_path):
    files = {"a.png": PNG} | {f"{number}.txt": b"" for number in range(12)}
    (one,) = open_source(write_folder(tmp_path / "d", files)).not_read
    assert one == NotRead(".txt files", 12, ("0.txt", "1.txt", "2.txt", "3.txt", "4.txt"))


def test_links_to_folders_are_followed_once_and_never_in_circles(tmp_path):
    write_folder(tmp_path / "elsewhere", {"1.png": PNG, "sub/2.png": PNG})
    folder = write_folder(tmp_path / "d", {"ant/0.png": PNG})
    (folder / "bee").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(folder / "ant")
    (folder / "circle").symlink_to(folder)
    (folder / "above").symlink_to(tmp_path)
    (tmp_path / "elsewhere/back").symlink_to(folder)
    source = open_source(folder)
    assert [source.item_name(at) for at in range(3)] == ["ant/0.png", "bee/1.png", "bee/sub/2.png"]
    assert reasons(source) == {"links to folders that are read under another name or lie above": 4}


def test_linked_class_folders_are_classes(tmp_path):
    for name in ("x", "y"):
        write_folder(tmp_path / "store" / name, {"0.png": PNG})
    (tmp_path / "d").mkdir()
    for name, target in (("cat", "y"), ("ant", "x")):
        (tmp_path / "d" / name).symlink_to(tmp_path / "store" / target)
    source = open_source(tmp_path / "d")
    assert (source.class_names, source.labels.tolist()) == (["ant", "cat"], [0, 1])


def test_a_folder_that_cannot_be_listed_is_counted(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may list every folder")
    folder = write_folder(tmp_path / "d", {"a.png": PNG, "secret/b.png": PNG})
    os.chmod(folder / "secret", 0)
    try:
        assert reasons(open_source(folder)) == {"folders that cannot be read": 1}
    finally:
        os.chmod(folder / "secret", 0o700)


def test_unreadable_images_and_later_frames_are_counted(tmp_path):
    folder = write_folder(tmp_path / "d", {"a.png": PNG, "bad.png": b"no image"})
    frames = [gray(value) for value in (1, 2, 3)]
    frames[0].save(folder / "film.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "pages.tif", save_all=True, append_images=frames[1:2])
    for data in (folder, [folder / name for name in ("a.png", "bad.png", "film.gif", "pages.tif")]):
        source = open_source(data, skip_bad=True)
        assert reasons(source) == {"unreadable images": 1, "later frames and pages": 3}
        assert [os.path.basename(name) for name, _ in source.skipped] == ["bad.png"]
    with Image.open(folder / "film.gif") as film:
        source = open_source([gray(5), b"no image", film], skip_bad=True)
        assert reasons(source) == {"unreadable images": 1, "later frames and pages": 2}


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_every_member_of_an_archive_is_an_item_or_is_counted(kind, tmp_path):
    files = {
        "a.png": PNG, "__MACOSX/._a.png": b"x", ".git/x.png": PNG, "@eaDir/a.png": PNG, "a.txt": b"a caption",
        "inner.zip": b"PK", "a.json": b'{"caption": "x"}',
    }  # fmt: skip
    path = tmp_path / f"a.{kind}"
    write_zip(path, files) if kind == "zip" else write_tar(path, files, "w:gz" if kind == "tgz" else "w")
    source = open_source(path)
    assert len(source) == 1
    assert reasons(source) == {
        "hidden and system files": 3, ".txt files in an archive": 1, "archives inside archives": 1,
        ".json files in an archive": 1,
    }  # fmt: skip


def test_links_in_a_tar_are_followed_inside_it(tmp_path):
    write_tar(tmp_path / "a.tar", {"cat/0.png": PNG, "dog/0.png": encoded(gray(9))})
    with tarfile.open(tmp_path / "a.tar", "a") as archive:
        for name, kind, target in (
            ("cat/1.png", tarfile.LNKTYPE, "dog/0.png"), ("dog/1.png", tarfile.SYMTYPE, "../cat/0.png"),
            ("dog/2.png", tarfile.SYMTYPE, "1.png"), ("dog/3.png", tarfile.SYMTYPE, "../../etc/x.png"),
            ("cat/4.png", tarfile.SYMTYPE, "5.png"), ("cat/5.png", tarfile.SYMTYPE, "4.png"),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
        device = tarfile.TarInfo("pipe.png")
        device.type = tarfile.FIFOTYPE
        archive.addfile(device)
    source = open_source(tmp_path / "a.tar")
    names = [source.item_name(at) for at in range(len(source))]
    assert names == ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png", "dog/2.png"]
    assert source.block(0, 5)[:, 0, 0].tolist() == [7, 9, 9, 7, 7]
    assert reasons(source) == {"pipes, sockets and devices": 1, "links to nothing in the archive": 3}
    assert source.labels.tolist() == [0, 0, 1, 1, 1]


def test_a_link_to_a_folder_in_a_tar_is_read_once(tmp_path):
    write_tar(tmp_path / "a.tar", {"cat/0.png": PNG})
    with tarfile.open(tmp_path / "a.tar", "a") as archive:
        info = tarfile.TarInfo("kitten")
        info.type, info.linkname = tarfile.SYMTYPE, "cat"
        archive.addfile(info)
    assert reasons(open_source(tmp_path / "a.tar")) == {
        "links to folders that are read under another name or lie above": 1
    }


def test_two_tars_of_one_kind_in_one_file_keep_their_labels(tmp_path):
    for files in ({"ant/0.png": PNG, "bee/0.png": PNG}, {"0.png": PNG, "0.cls": b"ant", "1.png": PNG, "1.cls": b"bee"}):
        part = write_tar(tmp_path / "part.tar", files).read_bytes()
        (tmp_path / "both.tar").write_bytes(part + part)
        source = open_source(tmp_path / "both.tar")
        assert [source.class_names[label] for label in source.labels].count("bee") == 2
        assert (len(source), source.not_read) == (4, ())


def test_two_tars_in_one_file_are_both_read(tmp_path):
    parts = [write_tar(tmp_path / f"{n}.tar", {f"{n}.png": encoded(gray(n)), "same.png": PNG}) for n in (1, 2)]
    (tmp_path / "both.tar").write_bytes(b"".join(part.read_bytes() for part in parts))
    source = open_source(tmp_path / "both.tar")
    names = [source.item_name(at) for at in range(len(source))]
    assert sorted(names) == ["1.png", "2.png", "same (at 10,240).png", "same.png"]
    (tmp_path / "noise.tar").write_bytes(parts[0].read_bytes() + b"\1" * 700)
    assert reasons(open_source(tmp_path / "noise.tar")) == {"bytes behind the end of the archive": 1}


def test_a_stray_image_makes_no_shard_disappear(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    write_tar(folder / "0.tar", {"a.png": PNG})
    write_tar(folder / "1.tar.gz", {"b.png": PNG}, "w:gz")
    write_zip(folder / "2.zip", {"c.png": PNG})
    write_folder(folder / "sub", {})
    write_tar(folder / "sub/3.tar", {"d.png": PNG})
    write_folder(folder, {"preview.jpg": encoded(gray(1), "JPEG")})
    source = open_source(folder)
    names = [source.item_name(at) for at in range(len(source))]
    assert names == ["0.tar/a.png", "1.tar.gz/b.png", "2.zip/c.png", "sub/3.tar/d.png"]
    assert reasons(source) == {".jpg files": 1}


def test_as_much_of_two_kinds_is_a_question(tmp_path):
    folder = write_folder(tmp_path / "d", {"a.png": PNG})
    write_tar(folder / "0.tar", {"b.png": PNG, "c.png": PNG})
    with pytest.raises(InputError, match=r"one kind of data, received both, for example .*PATH::"):
        open_source(folder)
    assert len(open_source(f"{folder}::images")) == 1
    assert len(open_source(f"{folder}::archives")) == 2


def test_other_arrays_and_columns_are_named(tmp_path):
    items = np.zeros((3, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", images=items, labels=[0, 1, 2], extra=np.zeros(9))
    source = open_source(tmp_path / "a.npz")
    assert source.not_read == (NotRead("other arrays in a file", 1, (f"{tmp_path}/a.npz[extra]",)),)
    pa = pytest.importorskip("pyarrow", reason="the package pyarrow is not installed")
    table = pa.table({"image": [PNG, PNG], "label": [1, 2], "caption": ["a", "b"], "width": [8, 8]})
    assert open_source(table).not_read == (NotRead("columns that are not read", 2, ("caption", "width")),)


def test_nothing_to_read_lists_what_there_was(tmp_path):
    folder = write_folder(tmp_path / "d", {"a.txt": b"", "b.eps": b"%!PS"})
    with pytest.raises(InputError, match=r"a folder without any \(1 \.txt files, 1 \.eps files\)"):
        open_source(folder)


def test_an_encrypted_or_linked_member_that_is_no_image_is_counted(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", PNG)
        link = zipfile.ZipInfo("b.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "a.png")
    source = open_source(tmp_path / "a.zip")
    assert (len(source), reasons(source)) == (1, {"links in a zip file": 1})


def test_a_subset_says_what_its_source_says(tmp_path):
    from memfast.data.subset import Subset

    source = open_source(write_folder(tmp_path / "d", {"a.png": PNG, "b.png": PNG, "c.txt": b""}))
    part = Subset(source, np.array([1]))
    assert (part.not_read, part.rules, part.value_range) == (source.not_read, source.rules, (0.0, 255.0))


def test_fields_and_entries_that_are_not_read_are_named(tmp_path):
    torch = pytest.importorskip("torch", reason="the package torch is not installed")
    rows = [{"image": gray(value), "label": value, "caption": "x"} for value in (1, 2)]
    assert reasons(open_source(rows)) == {"fields that are not read": 1}
    assert open_source([(gray(1), 0, "meta")]).not_read == (NotRead("fields that are not read", 1, ("[2]",)),)
    torch.save({"x": torch.zeros(2, 4), "epoch": 3, "other": torch.zeros(2)}, tmp_path / "a.pt")
    assert open_source(tmp_path / "a.pt").not_read[0].names == (f"{tmp_path}/a.pt[other]", f"{tmp_path}/a.pt[epoch]")


def test_frames_in_a_list_are_counted_too():
    stack = encoded(gray(1), "TIFF", save_all=True, append_images=[gray(2), gray(3)])
    assert reasons(open_source([stack, encoded(gray(4))])) == {"later frames and pages": 2}


def test_an_archive_of_archives_says_what_it_holds(tmp_path):
    inner = write_zip(tmp_path / "inner.zip", {"a.png": PNG}).read_bytes()
    for name in ("b.zip", "b.tar.gz", "b.7z"):
        outer = write_tar(tmp_path / "outer.tar", {name: inner, "readme": b""})
        with pytest.raises(InputError, match="with 1 archives inside archives, 1 files without a suffix in an archive"):
            open_source(outer)
    outer = write_tar(tmp_path / "outer.tar", {name: inner, "a.png": PNG})
    assert reasons(open_source(outer)) == {"archives inside archives": 1}


@pytest.mark.parametrize("name", ["#recycle/a.png", "@Recycle/a.png", "System Volume Information/a.png", "THUMBS.DB"])
def test_folders_of_systems_are_no_data(name, tmp_path):
    source = open_source(write_folder(tmp_path / "d", {"ant/1.png": PNG, "bee/2.png": PNG, name: PNG}))
    assert (source.class_names, reasons(source)) == (["ant", "bee"], {"hidden and system files": 1})
