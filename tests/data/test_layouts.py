"""The layouts in which people's tools leave data: img2dataset, EDM, the Hugging Face hub, caches of latents."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from memfast.data import open_source
from memfast.foundation.errors import InputError
from tests.data.data_containers import encoded, gray, reasons, write_folder, write_tar, write_zip

datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
pa = pytest.importorskip("pyarrow", reason="the package pyarrow is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="the package pyarrow is not installed")


def table(values, **columns):
    rows = [{"bytes": encoded(gray(value)), "path": None} for value in values]
    return pa.table({"image": rows, "label": list(range(len(values))), **columns})


def values_of(source):
    return source.block(0, len(source))[:, 0, 0].tolist()


def img2dataset_rows(numbers):
    return pa.table({"url": [f"http://a/{n}" for n in numbers], "key": [f"{n:09d}" for n in numbers], "width": numbers})


def test_img2dataset_files(tmp_path):
    for shard in range(2):
        for number in range(2):
            key = f"{shard:05d}{number:04d}"
            write_folder(
                tmp_path / f"d/{shard:05d}",
                {
                    f"{key}.jpg": encoded(gray(50 * shard + number), "JPEG"), f"{key}.txt": b"a caption",
                    f"{key}.json": json.dumps({"caption": "a caption", "key": key}).encode(),
                },
            )  # fmt: skip
        parquet.write_table(img2dataset_rows([0, 1]), tmp_path / f"d/{shard:05d}.parquet")
        (tmp_path / f"d/{shard:05d}_stats.json").write_text("{}")
    source = open_source(tmp_path / "d")
    assert (len(source), source.labels) == (4, None)
    assert reasons(source) == {".txt files": 4, ".json files": 6, ".parquet files": 2}


def test_img2dataset_webdataset(tmp_path):
    (tmp_path / "d").mkdir()
    for shard in range(2):
        files = {}
        for number in range(2):
            key = f"{shard:05d}{number:04d}"
            files |= {f"{key}.jpg": encoded(gray(number), "JPEG"), f"{key}.txt": b"x", f"{key}.json": b'{"key": "1"}'}
        write_tar(tmp_path / f"d/{shard:05d}.tar", files)
        parquet.write_table(img2dataset_rows([0, 1]), tmp_path / f"d/{shard:05d}.parquet")
        (tmp_path / f"d/{shard:05d}_stats.json").write_text("{}")
    source = open_source(tmp_path / "d")
    assert [source.item_name(at) for at in (0, 3)] == ["00000.tar/000000000.jpg", "00001.tar/000010001.jpg"]
    assert source.labels is None
    assert reasons(source) == {
        ".txt files in an archive": 4, ".json files in an archive": 4, ".json files": 2, ".parquet files": 2,
    }  # fmt: skip


def test_edm_zip(tmp_path):
    files = {f"{number // 2:05d}/img{number:08d}.png": encoded(gray(number)) for number in range(4)}
    files["dataset.json"] = json.dumps({"labels": [[name, at % 3] for at, name in enumerate(files)]}).encode()
    files["dataset.json"] += b" " * 3_000_000  # as large as those of real sets, and packed as well
    source = open_source(write_zip(tmp_path / "edm.zip", files))
    assert (values_of(source), source.labels.tolist(), source.not_read) == ([0, 1, 2, 3], [0, 1, 2, 0], ())


def test_hub_layout_needs_a_split(tmp_path):
    (tmp_path / "d/data").mkdir(parents=True)
    for name, values in (("train-00000-of-00002", [1, 2]), ("train-00001-of-00002", [3]), ("test-00000-of-00001", [9])):
        parquet.write_table(table(values), tmp_path / f"d/data/{name}.parquet")
    (tmp_path / "d/README.md").write_text("a data set")
    with pytest.raises(InputError, match=r"expected one split, received several: test, train\. Choose one: PATH::test"):
        open_source(tmp_path / "d")
    source = open_source(f"{tmp_path}/d::train")
    assert (values_of(source), source.name) == ([1, 2, 3], f"{tmp_path}/d[train]")
    assert reasons(source) == {"files of other splits": 1, ".md files": 1}
    assert values_of(open_source(tmp_path / "d", split="test")) == [9]
    assert values_of(open_source(f"{tmp_path}/d::train::image")) == [1, 2, 3]
    with pytest.raises(InputError, match=r"expected the split 'validation', received test, train"):
        open_source(tmp_path / "d", split="validation")


def test_configurations_of_a_hub_data_set_are_never_mixed(tmp_path):
    for folder in ("small", "large"):
        (tmp_path / folder).mkdir()
        parquet.write_table(table([1]), tmp_path / folder / "train-00000-of-00001.parquet")
    with pytest.raises(InputError, match=r"one configuration of a data set, received train-0.*'large' and 'small'"):
        open_source(tmp_path)
    assert values_of(open_source(tmp_path / "small")) == [1]


@pytest.mark.parametrize("kind", ["tar", "npy", "images"])
def test_splits_are_never_mixed(kind, tmp_path):
    folder = tmp_path / "d"
    for split, value in (("train", 1), ("val", 2)):
        if kind == "tar":
            folder.mkdir(exist_ok=True)
            write_tar(folder / f"cc3m-{split}-0000.tar", {"a.png": encoded(gray(value))})
        elif kind == "npy":
            folder.mkdir(exist_ok=True)
            np.save(folder / f"x_{split}.npy", np.full((2 + value, 8, 8), value, np.uint8))
        else:
            write_folder(
                folder, {f"{split}/cat/0.png": encoded(gray(value)), f"{split}/ant/1.png": encoded(gray(value))}
            )
    with pytest.raises(InputError, match="one split, received several: train, validation"):
        open_source(folder)
    source = open_source(f"{folder}::val")
    assert set(values_of(source)) == {2}
    if kind == "images":
        assert source.class_names == ["ant", "cat"]


def test_file_names_of_images_are_no_splits(tmp_path):
    files = {"train_1.png": encoded(gray(1)), "test_1.png": encoded(gray(2))}
    assert len(open_source(write_folder(tmp_path / "d", files))) == 2


def hugging_face(values):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    return datasets.Dataset.from_dict({"image": [gray(v) for v in values], "label": list(values)}, features=features)


def test_dictionaries_of_splits(tmp_path):
    both = datasets.DatasetDict({"train": hugging_face([1, 2]), "validation": hugging_face([3])})
    both.save_to_disk(tmp_path / "d")
    for data in (both, tmp_path / "d"):
        with pytest.raises(InputError, match=r"expected one split, received train, validation\. Choose one"):
            open_source(data)
        assert values_of(open_source(data, split="val")) == [3]
        assert values_of(open_source(data, split="train")) == [1, 2]
    source = open_source(f"{tmp_path}/d::train::image")
    assert (values_of(source), reasons(source)) == ([1, 2], {"files of other splits": 3})


def test_caches_of_map_are_no_data(tmp_path):
    hugging_face([1, 2, 3]).save_to_disk(tmp_path / "d")
    loaded = datasets.load_from_disk(tmp_path / "d")
    loaded.map(lambda row: {"label": row["label"] + 1})
    assert list((tmp_path / "d").glob("cache-*.arrow"))
    source = open_source(tmp_path / "d")
    assert values_of(source) == [1, 2, 3]
    assert reasons(source) == {"arrow files that the data set does not list": 1}
    (tmp_path / "d/state.json").unlink()
    source = open_source(tmp_path / "d")
    assert values_of(source) == [1, 2, 3]
    assert reasons(source) == {"cached results of .map (cache-*.arrow)": 1, ".json files": 1}


def test_the_indices_of_a_saved_data_set_choose_its_rows(tmp_path):
    hugging_face([1, 2, 3]).save_to_disk(tmp_path / "d")
    order = pa.table({"indices": pa.array([2, 0], pa.uint64())})
    with pa.OSFile(str(tmp_path / "d/indices.arrow"), "wb") as sink, pa.ipc.new_stream(sink, order.schema) as writer:
        writer.write_table(order)
    state = json.loads((tmp_path / "d/state.json").read_text())
    state["_indices_files"] = [{"filename": "indices.arrow"}]
    (tmp_path / "d/state.json").write_text(json.dumps(state))
    assert values_of(open_source(tmp_path / "d")) == [3, 1]
    assert values_of(open_source(hugging_face([1, 2, 3]).select([2, 0]))) == [3, 1]
    hugging_face(range(9)).shuffle(seed=0).save_to_disk(tmp_path / "e")
    assert sorted(values_of(open_source(tmp_path / "e"))) == list(range(9))


def test_damaged_notes_of_a_saved_data_set(tmp_path):
    hugging_face([1, 2]).save_to_disk(tmp_path / "d")
    for content in ("{", "[]", '{"_data_files": [{"filename": "../../x"}]}', '{"_data_files": 3}', "[" * 100_000):
        (tmp_path / "d/state.json").write_text(content)
        with pytest.raises(InputError):
            open_source(tmp_path / "d")


@pytest.mark.parametrize(
    ("shapes", "each"),
    [
        ([(4, 16, 16)] * 6, True), ([(16, 8, 8)] * 20, True), ([(3, 8, 8)] * 2, True), ([(8, 8, 3)] * 2, True),
        ([(512,)] * 3, True), ([(5, 8, 8), (3, 8, 8)], False), ([(10, 3, 8, 8)] * 2, False), ([(64, 8, 8)] * 4, None),
        ([(1, 4, 8, 8)] * 3, False), ([(1, 512)] * 3, False), ([(20, 512)] * 5, None),
        ([(7, 5)] * 9, True), ([(100, 60, 3)] * 4, None),
    ],
    ids=str,
)  # fmt: skip
def test_files_of_one_item_each_and_shards_are_told_apart(shapes, each, tmp_path):
    random = np.random.default_rng(0)
    arrays = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
    if each is None:
        with pytest.raises(InputError, match=r"could be either\. Say which: PATH::one-item"):
            open_source(tmp_path)
        many = open_source(f"{tmp_path}::many-items")
        np.testing.assert_array_equal(many.block(0, len(many)), np.concatenate(arrays))
        one = open_source(tmp_path, files_hold="one item")
        np.testing.assert_array_equal(one.block(0, len(one)), np.stack(arrays))
        assert one.item_name(1) == "1.npy"
    else:
        source = open_source(tmp_path)
        expected = np.stack(arrays) if each else np.concatenate(arrays)
        np.testing.assert_array_equal(source.block(0, len(source)), expected)


def test_gray_images_of_one_npy_each_are_images(tmp_path):
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", np.full((8, 8), number, np.uint8))
    assert values_of(open_source(tmp_path)) == [0, 1, 2]


def test_latents_with_class_folders_and_other_arrays(tmp_path):
    for name in ("cat/10", "cat/9", "ant/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.savez(tmp_path / f"{name}.npz", latents=np.full((4, 8, 8), 2.0, np.float32), crop=np.zeros(4))
    source = open_source(tmp_path)
    assert [source.item_name(at) for at in range(3)] == ["ant/1.npz", "cat/9.npz", "cat/10.npz"]
    assert [source.class_names[label] for label in source.labels] == ["ant", "cat", "cat"]
    assert reasons(source) == {"other arrays in a file": 3}


def test_batches_of_one_keep_their_names_and_classes(tmp_path):
    for number, name in enumerate(("ant/1", "cat/2")):
        (tmp_path / name).parent.mkdir()
        torch.save(torch.full((1, 4, 8, 8), float(number)), tmp_path / f"{name}.pt")
    source = open_source(tmp_path)
    assert (source.item_shape, source.item_name(1), source.class_names) == ((4, 8, 8), "cat/2.pt", ["ant", "cat"])
    assert source.block(0, 2)[:, 0, 0, 0].tolist() == [0, 1]


@pytest.mark.parametrize("names", [True, False])
def test_shards_of_npz_keep_their_labels_and_names(names, tmp_path):
    for number, count in enumerate((5, 3)):
        x = np.full((count, 8, 8), number, np.uint8)
        extra = {"names": [f"{number}-{row}" for row in range(count)]} if names else {}
        np.savez(tmp_path / f"{number}.npz", x=x, y=["cat", "ant"][number : number + 1] * count, other=0, **extra)
    source = open_source(tmp_path)
    assert [source.class_names[label] for label in source.labels] == ["cat"] * 5 + ["ant"] * 3
    assert source.item_name(6) == ("1-1" if names else "6")
    assert reasons(source) == {"other arrays in a file": 2}


def test_one_file_may_hold_one_item(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 8, 8), np.float32))
    for source in (open_source(tmp_path / "a.npy", files_hold="one item"), open_source(f"{tmp_path}::one-item")):
        assert (len(source), source.item_shape) == (1, (4, 8, 8))


def test_latents_of_another_shape_are_named(tmp_path):
    write = {f"{number}.npy": np.zeros((4, 8, 8 + number // 2), np.float32) for number in range(3)}
    for name, array in write.items():
        np.save(tmp_path / name, array)
    with pytest.raises(InputError, match=r"one item shape|expected float32 \[4, 8, 8\]"):
        open_source(tmp_path)


def test_lists_of_paths_keep_their_order(tmp_path):
    folder = write_folder(tmp_path / "d", {f"{number}.png": encoded(gray(number)) for number in (1, 2, 10)})
    source = open_source([folder / "10.png", str(folder / "2.png"), folder / "1.png"])
    assert values_of(source) == [10, 2, 1]
    tars = [write_tar(tmp_path / f"{n}.tar", {"a.png": encoded(gray(n))}) for n in (2, 1)]
    assert values_of(open_source(tars)) == [2, 1]
    np.save(tmp_path / "b.npy", np.full((3, 4, 4), 5, np.uint8))
    np.save(tmp_path / "a.npy", np.full((2, 4, 4), 6, np.uint8))
    assert values_of(open_source([tmp_path / "b.npy", tmp_path / "a.npy"])) == [5, 5, 5, 6, 6]


def test_frames_with_images(tmp_path):
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    pl = pytest.importorskip("polars", reason="polars is not installed")
    contents = [encoded(gray(value)) for value in (3, 4)]
    rows = {"image": contents, "label": ["b", "a"], "caption": ["x", "y"]}
    for frame in (
        pd.DataFrame(rows),
        pl.DataFrame(rows),
        pa.table(rows),
        pd.DataFrame(rows | {"image": [gray(3), gray(4)]}),
    ):
        source = open_source(frame)
        assert (values_of(source), source.labels.tolist(), source.class_names) == ([3, 4], [1, 0], ["a", "b"])
        assert reasons(source) == {"columns that are not read": 1}


def test_single_image_and_odd_names(tmp_path):
    folder = write_folder(
        tmp_path / "d", {"1²2.png": encoded(gray(1)), "٣.png": encoded(gray(2)), "a::b.png": encoded(gray(3))}
    )
    assert len(open_source(folder)) == 3
    assert values_of(open_source(folder / "a::b.png")) == [3]


@pytest.mark.parametrize("suffix", ["avif", "jfif", "jp2", "jpe", "qoi", "tga", "dib", "pbm", "apng"])
def test_less_common_image_files(suffix, tmp_path):
    kinds = {"jfif": "JPEG", "jpe": "JPEG", "jp2": "JPEG2000", "pbm": "PPM", "apng": "PNG"}
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    image = colour.convert("1") if suffix == "pbm" else colour
    content = io.BytesIO()
    try:
        image.save(content, kinds.get(suffix, suffix.upper()))
    except (KeyError, OSError) as error:
        pytest.skip(f"this Pillow writes no {suffix}: {error}")
    source = open_source(write_folder(tmp_path / "d", {f"a.{suffix}": content.getvalue()}))
    with Image.open(io.BytesIO(content.getvalue())) as back:
        np.testing.assert_array_equal(
            source.block(0, 1)[0], np.asarray(back.convert("L" if suffix == "pbm" else "RGB"))
        )


def test_formats_of_missing_plug_ins_are_counted(tmp_path):
    from memfast.data.pixels import image_suffixes

    if ".heic" in image_suffixes():
        pytest.skip("pillow-heif is installed")
    source = open_source(write_folder(tmp_path / "d", {"a.png": encoded(gray(1)), "b.heic": b"x", "c.HEIC": b"x"}))
    assert reasons(source) == {".heic files": 2}


def test_an_outside_package_adds_a_format(tmp_path, monkeypatch):
    from memfast.data import FORMATS, ArraySource, Format

    class Constant(Format):
        name = "constant"

        def claim(self, place):
            return place.ending((".constant",))

        def read(self, place, names, options):
            place.use(names)
            return ArraySource(np.stack([np.full((2, 2), int(place.read(name)), np.uint8) for name in names]), name="c")

    monkeypatch.setitem(FORMATS._entries, "constant", Constant())
    source = open_source(write_folder(tmp_path / "d", {"a.constant": b"7", "b.constant": b"8", "c.txt": b""}))
    assert (values_of(source), reasons(source)) == ([7, 8], {".txt files": 1})


@pytest.mark.parametrize("write", [write_zip, write_tar], ids=["zip", "tar"])
def test_splits_inside_an_archive_are_never_mixed(write, tmp_path):
    files = {
        f"{split}/{name}/0.png": encoded(gray(value)) for value, split in enumerate(("train", "test")) for name in "ab"
    }
    path = write(tmp_path / "a.any", files)
    path = path.rename(tmp_path / ("a.zip" if write is write_zip else "a.tar"))
    with pytest.raises(InputError, match="one split, received several: test, train"):
        open_source(path)
    for source in (open_source(f"{path}::test"), open_source(path, split="test")):
        assert (values_of(source), source.labels.tolist(), source.class_names) == ([1, 1], [0, 1], ["a", "b"])
        assert reasons(source) == {"files of other splits": 2}


def test_files_that_were_named_one_by_one_are_one_set(tmp_path):
    paths = [
        write_tar(tmp_path / f"{split}.tar", {"a.png": encoded(gray(value))})
        for value, split in enumerate(("train", "test"))
    ]
    assert values_of(open_source(paths)) == [0, 1]
    with pytest.raises(InputError, match="expected the split 'train', received"):
        open_source(paths[0], split="train")
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 4), np.uint8))
    parquet.write_table(table([1]), tmp_path / "a.parquet")
    for name in ("a.npy", "a.parquet"):
        with pytest.raises(InputError, match="expected the split 'train', received data without splits"):
            open_source(tmp_path / name, split="train")
