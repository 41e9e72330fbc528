"""Every format gives the same items back, and every bad file gives one clear error that names it."""

import fractions
import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from memfast.data import open_source
from memfast.foundation.errors import InputError
from memfast.models import ItemFormat


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (7, 6, 5, 3), dtype=np.uint8)


def png(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(folder, images, name="img{}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        (folder / name.format(number)).write_bytes(png(image))
    return folder


def write_zip(path, images):
    with zipfile.ZipFile(path, "w") as archive:
        for number, image in enumerate(images):
            archive.writestr(f"img{number}.png", png(image))
    return path


def write_tar(path, images):
    with tarfile.open(path, "w") as archive:
        for number, image in enumerate(images):
            for suffix, content in ((".png", png(image)), (".cls", str(number % 3).encode())):
                info = tarfile.TarInfo(f"{number:05d}{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def write_npy(path, images):
    np.save(path, images)
    return path


def write_npz(path, images):
    np.savez(path, images=images, labels=np.arange(len(images)))
    return path


def write_safetensors(path, images):
    from safetensors.numpy import save_file

    save_file({"x": images}, path)
    return path


def write_pt(path, images):
    torch.save({"x": torch.from_numpy(images)}, path)
    return path


def write_parquet(path, images):
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    rows = [{"bytes": png(image), "path": None} for image in images]
    parquet.write_table(arrow.table({"image": rows, "label": list(range(len(images)))}), path)
    return path


def write_shards(path, images):
    path.mkdir()
    np.save(path / "a.npy", images[:3])
    np.save(path / "b.npy", images[3:])
    return path


WRITERS = {
    "folder": write_folder, "zip": write_zip, "tar": write_tar, "npy": write_npy, "npz": write_npz,
    "safetensors": write_safetensors, "pt": write_pt, "parquet": write_parquet, "shards": write_shards,
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_items_back(kind, tmp_path, images):
    name = f"data.{kind}" if kind not in ("folder", "shards") else "data"
    source = open_source(WRITERS[kind](tmp_path / name, images))
    assert len(source) == 7
    assert source.item_shape == (6, 5, 3)
    assert source.dtype == np.uint8
    np.testing.assert_array_equal(source.block(0, 7), images)
    np.testing.assert_array_equal(source.block(2, 5), images[2:5])
    np.testing.assert_array_equal(source.take([5, 0, 3]), images[[5, 0, 3]])
    assert source.content_hash() == open_source(images).content_hash()


def test_tensors_with_channels_first_become_channels_last(images):
    source = open_source(torch.from_numpy(images).permute(0, 3, 1, 2))
    np.testing.assert_array_equal(source.block(0, 7), images)


@pytest.mark.parametrize("shape", [(3, 4, 8), (4, 4, 8), (4, 32, 32), (3, 32, 32), (8, 4, 3)])
def test_floating_tensors_keep_their_layout_as_arrays_do(shape):
    """So that samples of latents come back in it, whichever way the latents were given."""
    latents = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    array = open_source(latents.numpy())
    for given in (latents, torch.utils.data.TensorDataset(latents)):
        source = open_source(given)
        assert source.item_shape == array.item_shape == shape
        np.testing.assert_array_equal(source.block(0, 5), latents.numpy())
        assert ItemFormat.of(source.item_shape, source.dtype).item_shape == ((3, 8, 4) if shape == (8, 4, 3) else shape)


def test_a_torch_dataset_keeps_its_labels(images):
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(images), torch.arange(7))
    source = open_source(dataset)
    np.testing.assert_array_equal(source.block(0, 7), images)
    np.testing.assert_array_equal(source.labels, np.arange(7))


def test_a_hugging_face_folder(tmp_path, images):
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {"image": [Image.fromarray(image) for image in images], "label": list(range(7))}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "hf")
    source = open_source(tmp_path / "hf")
    np.testing.assert_array_equal(source.block(0, 7), images)
    np.testing.assert_array_equal(source.labels, np.arange(7))


def test_class_folders_become_labels(tmp_path, images):
    write_folder(tmp_path / "data/cat", images[:3])
    write_folder(tmp_path / "data/ant", images[3:])
    source = open_source(tmp_path / "data")
    assert source.class_names == ["ant", "cat"]
    np.testing.assert_array_equal(source.labels, [0, 0, 0, 0, 1, 1, 1])
    assert source.item_name(0) == "ant/img0.png"


def test_a_file_name_that_is_no_utf8_can_be_printed(tmp_path, images):
    write_folder(tmp_path / "d", images[:1])
    (tmp_path / "d/img0.png").rename(tmp_path / "d" / os.fsdecode(b"\xff\xfe.png"))
    assert open_source(tmp_path / "d").item_name(0) == "\\udcff\\udcfe.png"


def test_natural_order_of_file_names(tmp_path):
    write_folder(tmp_path / "d", np.arange(12, dtype=np.uint8).reshape(12, 1, 1).repeat(4, 1).repeat(4, 2))
    np.testing.assert_array_equal(open_source(tmp_path / "d").block(0, 12)[:, 0, 0], np.arange(12))


def test_webdataset_labels(tmp_path, images):
    np.testing.assert_array_equal(open_source(write_tar(tmp_path / "w.tar", images)).labels, np.arange(7) % 3)


def test_ucr_text(tmp_path):
    (tmp_path / "s.tsv").write_text("1\t0.5\t-1.5\n2\t2.5\t3.5\n")
    source = open_source(tmp_path / "s.tsv")
    np.testing.assert_array_equal(source.block(0, 2), np.array([[0.5, -1.5], [2.5, 3.5]], np.float32))
    np.testing.assert_array_equal(source.labels, [1, 2])


def test_one_array_of_several_is_named(tmp_path, images):
    np.savez(tmp_path / "a.npz", x_train=images, x_test=images[:2])
    assert len(open_source(tmp_path / "a.npz")) == 7
    assert len(open_source(f"{tmp_path}/a.npz::x_test")) == 2


def test_modes_are_converted_on_purpose(tmp_path):
    (tmp_path / "d").mkdir()
    Image.new("L", (4, 4), 7).save(tmp_path / "d/a.png")
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "d/b.png")
    Image.new("P", (4, 4)).save(tmp_path / "d/c.png")
    source = open_source(tmp_path / "d")
    assert source.item_shape == (4, 4, 3)
    np.testing.assert_array_equal(source.block(0, 2)[:, 0, 0], [[7, 7, 7], [255, 255, 255]])
    assert source.original_modes == {"L": 1, "RGBA": 1, "P": 1}
    assert open_source(tmp_path / "d", mode="L").item_shape == (4, 4)


def test_sixteen_bit_gray(tmp_path):
    (tmp_path / "d").mkdir()
    Image.fromarray(np.full((4, 4), 0x1234, np.uint16)).save(tmp_path / "d/a.png")
    assert open_source(tmp_path / "d").block(0, 1)[0, 0, 0] == 0x12


def test_an_unreadable_image_is_named(tmp_path, images):
    write_folder(tmp_path / "d", images)
    (tmp_path / "d/img3.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"img3\.png.*skip_bad"):
        open_source(tmp_path / "d")
    source = open_source(tmp_path / "d", skip_bad=True)
    assert len(source) == 6
    assert [name for name, _ in source.skipped] == ["img3.png"]
    np.testing.assert_array_equal(source.block(0, 6), images[[0, 1, 2, 4, 5, 6]])


def test_a_truncated_image_is_named(tmp_path, images):
    big = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    write_folder(tmp_path / "d", big)
    path = tmp_path / "d/img1.png"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"img1\.png"):
        open_source(tmp_path / "d")
    source = open_source(tmp_path / "d", skip_bad=True)
    np.testing.assert_array_equal(source.block(0, 2), big[[0, 2]])


def test_mixed_sizes_name_both_images(tmp_path, images):
    write_folder(tmp_path / "d", images)
    (tmp_path / "d/img3.png").write_bytes(png(images[3, :4]))
    with pytest.raises(InputError, match=r"img3\.png: expected 5x6 pixels, as img0\.png, received 5x4"):
        open_source(tmp_path / "d")
    assert open_source(tmp_path / "d", image_size=4).item_shape == (4, 4, 3)


@pytest.mark.parametrize("member", ["/etc/x.png", "../x.png", "a/../../x.png", "C:/x.png"])
def test_archives_with_paths_outside_are_refused(tmp_path, images, member):
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr(member, png(images[0]))
    with pytest.raises(InputError, match="absolute or parent path"):
        open_source(tmp_path / "z.zip")
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        info = tarfile.TarInfo(member)
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    with pytest.raises(InputError, match="absolute or parent path"):
        open_source(tmp_path / "t.tar")


def test_a_compressed_bomb_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(64 << 20))
    with pytest.raises(InputError, match="extreme compression"):
        open_source(tmp_path / "z.zip")


def test_an_image_of_too_many_pixels_is_refused(tmp_path):
    (tmp_path / "d").mkdir()
    Image.new("1", (20_000, 20_000)).save(tmp_path / "d/a.png")
    with pytest.raises(InputError, match=r"a\.png"):
        open_source(tmp_path / "d")


def test_no_pickle_is_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="without pickles"):
        open_source(tmp_path / "a.npy")
    torch.save({"x": fractions.Fraction(1, 2)}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="without pickles"):
        open_source(tmp_path / "a.pt")


def test_a_parquet_column_that_is_no_image(tmp_path):
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    parquet.write_table(arrow.table({"image": ["a", "b"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"row 0: expected an encoded image"):
        open_source(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["a.npz", "a.pt", "a.safetensors", "a.zip", "a.tar", "a.parquet", "a.npy"])
def test_damaged_files_give_one_line(name, tmp_path):
    (tmp_path / name).write_bytes(b"xnothing that anyone can read" * 40)
    with pytest.raises(InputError, match=r"a\.\w+: expected (a )?readable") as caught:
        open_source(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_side_of_no_pixels_is_refused(tmp_path, images):
    with pytest.raises(InputError, match="image_size: expected a side of at least 1 pixel, received 0"):
        open_source(write_folder(tmp_path / "d", images), image_size=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "nothing", "nothing there"),
        (lambda path: path, "an empty folder"),
        (lambda path: (path / "a.xyz").write_text("x") and path / "a.xyz", "a .xyz file"),
        (lambda path: np.zeros((0, 4, 4), np.uint8), "non-empty array"),
        (lambda path: np.zeros((2, 4, 4), np.int32), "uint8"),
        (lambda path: 3, "received int"),
        (lambda path: "", "expected a path, received an empty one"),
        (lambda path: f"{write_npy(path / 'a.npy', np.zeros((2, 4, 4), np.uint8))}::x", "::NAME only where"),
        (lambda path: np.save(write_folder(path / "d", [np.zeros((4, 4), np.uint8)]) / "a.npy", np.zeros(2))
         or path / "d", r"received both, for example img0\.png"),
        (lambda path: (path / "a.tsv").write_text("1 2\nnan 2\n") and path / "a.tsv", "line 2: expected a class label"),
    ],
    ids=[
        "missing", "empty-folder", "unknown-format", "empty-array", "int32", "number", "no-path", "part-of-one-array",
        "images-and-arrays", "label",
    ],
)  # fmt: skip
def test_what_cannot_be_read(make, message, tmp_path):
    with pytest.raises(InputError, match=message):
        open_source(make(tmp_path))


MASKED = np.ma.masked_array(np.ones((3, 4), np.float32), mask=np.eye(3, 4))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (MASKED, "expected an array without a mask"),
        (np.ma.masked_array(np.ones((3, 8, 8), np.uint8)), "expected an array without a mask"),
        ([MASKED[0], MASKED[1]], "expected an array without a mask"),
        ([(MASKED[0], 1), (MASKED[1], 2)], "expected an array without a mask"),
        ({"x": MASKED}, "expected an array without a mask"),
        (torch.eye(4).to_sparse(), "expected a dense tensor of numbers, received one of layout torch.sparse_coo"),
        (torch.ones(3, 4, device="meta"), "expected a dense tensor of numbers, received one on the meta device"),
        ([torch.eye(4).to_sparse()], "expected a dense tensor of numbers"),
    ],
    ids=["array", "images", "list", "pairs", "dictionary", "sparse", "meta", "list of sparse"],
)
def test_numbers_that_cannot_be_read_one_by_one_are_refused(data, text):
    with pytest.raises(InputError, match=text):
        open_source(data, name="data")


def test_narrow_floats_are_read_without_loss():
    numbers = torch.tensor([[0.5, -1.75], [448.0, 0.0625]])
    for dtype in (torch.float8_e4m3fn, torch.bfloat16):
        source = open_source(numbers.to(dtype), name="data")
        np.testing.assert_array_equal(source.take([0, 1]), numbers.numpy())
