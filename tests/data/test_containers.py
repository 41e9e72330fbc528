"""The same items written through every container and mode become the same pixels, labels and order."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from memfast.data import open_source
from tests.data.data_containers import encoded, write_folder, write_tar, write_zip

datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
pa = pytest.importorskip("pyarrow", reason="the package pyarrow is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="the package pyarrow is not installed")

CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "1": 1, "P": 1, "I;16": 1}
CLASSES = ["ant", "bee", "zebra"]


def make(mode, seed):
    random = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.frombytes("I;16", (7, 5), random.integers(0, 65536, 35, dtype=np.uint16).astype("<u2").tobytes())
    if mode == "1":
        return Image.fromarray(random.integers(0, 2, (5, 7), dtype=np.uint8) * 255).convert("1")
    values = random.integers(0, 256, (5, 7, CHANNELS[mode]), dtype=np.uint8)
    if mode == "P":
        image = Image.fromarray(values[..., 0] % 8, "L").convert("P")
        image.putpalette(random.integers(0, 256, 24, dtype=np.uint8).tobytes())
        return image
    return Image.frombytes(mode, (7, 5), values.tobytes())


def expected_pixels(image, gray):
    """By Pillow's own operations, written apart from the reader."""
    if image.mode == "I;16":
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("LA", "RGBA"):
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return np.asarray(image.convert("L" if gray else "RGB"))


def containers(folder, contents, labels):
    """Every container of the same encoded items: name -> (data, whether it has labels)."""
    stems = [f"img{number}" for number in range(len(contents))]
    suffixes = [".tif" if content[:2] == b"II" else ".png" for content in contents]
    plain = {stem + suffix: content for stem, suffix, content in zip(stems, suffixes, contents, strict=True)}
    web = dict(plain)
    for stem, label in zip(stems, labels, strict=True):
        web[f"{stem}.cls"] = label.encode()
    rows = {"image": [{"bytes": content, "path": None} for content in contents], "label": labels}
    path = folder / "a.parquet"
    parquet.write_table(pa.table(rows), path)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    held = datasets.Dataset.from_dict(rows, features=features)
    held.save_to_disk(folder / "saved")
    datasets.DatasetDict({"train": held, "test": held.select([0])}).save_to_disk(folder / "splits")
    (folder / "shards").mkdir()
    half = len(contents) // 2
    for number, some in enumerate((list(plain)[:half], list(plain)[half:])):
        members = {name: plain[name] for name in some}
        members |= {f"{Path(name).stem}.cls": web[f"{Path(name).stem}.cls"] for name in some}
        write_tar(folder / f"shards/{number}.tar", members)
    write_folder(folder / "plain", plain)
    pictures = [Image.open(io.BytesIO(content)) for content in contents]
    return {
        "folder": write_folder(folder / "folder", web),
        "zip": write_zip(folder / "a.zip", web),
        "tar": write_tar(folder / "a.tar", web),
        "tar.gz": write_tar(folder / "a.tar.gz", web, "w:gz"),
        "tar.xz": write_tar(folder / "a.tar.xz", web, "w:xz"),
        "shards": folder / "shards",
        "parquet": path,
        "table": pa.table(rows),
        "pandas": pa.table(rows).to_pandas(),
        "polars": pytest.importorskip("polars", reason="polars is not installed").from_arrow(pa.table(rows)),
        "hugging face": held,
        "torch format": held.with_format("torch"),
        "saved": folder / "saved",
        "split": f"{folder / 'splits'}::train",
        "dictionary of splits": (datasets.DatasetDict({"train": held}), {"split": "train"}),
        "pictures": list(zip(pictures, labels, strict=True)),
        "bytes": list(zip(contents, labels, strict=True)),
        "paths": ([folder / "plain" / name for name in plain], {"labels": None}),
        "arrays": (
            [np.asarray(picture) for picture in pictures], {"labels": None}
        ) if all(picture.mode in ("L", "LA", "RGB", "RGBA", "1", "I;16") for picture in pictures) else None,
    }  # fmt: skip


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.sampled_from(sorted(CHANNELS)), st.integers(0, 2**32)), min_size=2, max_size=12),
    st.sampled_from(["auto", "L", "RGB"]),
    st.sampled_from([None, 4]),
)
def test_every_container_gives_the_same_bits_labels_and_order(items, mode, image_size):
    images = [make(*item) for item in items]
    contents = [encoded(image, "TIFF" if image.mode == "CMYK" else "PNG") for image in images]
    labels = [CLASSES[number % 3] for number in range(len(images))]
    # A file knows fewer modes than Pillow: what counts is what it gives back.
    back = [Image.open(io.BytesIO(content)) for content in contents]
    gray = mode == "L" or (mode == "auto" and all(image.mode in ("L", "LA", "1", "I;16") for image in back))
    expected = np.stack([expected_pixels(image, gray) for image in back])
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name, data in containers(Path(folder), contents, labels).items():
            if data is None:
                continue
            data, options = data if isinstance(data, tuple) else (data, {})
            labelled = "labels" not in options
            options = {key: value for key, value in options.items() if key != "labels"}
            found[name] = open_source(data, mode=mode, image_size=image_size, **options)
            if labelled:
                classes = found[name].class_names
                assert [classes[label] for label in found[name].labels] == labels, name
        first = found["folder"].block(0, len(images))
        if image_size is None:
            np.testing.assert_array_equal(first, expected)
        for name, source in found.items():
            np.testing.assert_array_equal(source.block(0, len(images)), first, err_msg=name)
            assert source.content_hash() == found["folder"].content_hash(), name
        for name in ("zip", "tar", "tar.gz", "tar.xz"):
            names = [[source.item_name(at) for at in range(len(images))] for source in (found[name], found["folder"])]
            assert names[0] == names[1]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64], ids=lambda dtype: dtype.__name__)
def test_every_container_of_arrays_gives_the_same_bits(dtype, tmp_path):
    import torch
    from safetensors.numpy import save_file

    values = np.random.default_rng(0).integers(0, 256, (11, 4, 6, 6)).astype(dtype)
    files = {}
    for number, item in enumerate(values):
        content = io.BytesIO()
        np.save(content, item)
        files[f"cache{number}.npy"] = content.getvalue()
    save_file({"x": values}, tmp_path / "a.safetensors")
    torch.save(torch.from_numpy(values), tmp_path / "a.pt")
    np.savez_compressed(tmp_path / "a.npz", images=values)
    np.save(tmp_path / "a.npy", values)
    (tmp_path / "shards").mkdir()
    for number in range(3):
        np.save(tmp_path / f"shards/{number}.npy", values[4 * number : 4 * number + 4])
    for kind in ("npz", "pt", "safetensors"):
        (tmp_path / kind).mkdir()
        for number, item in enumerate(values):
            path = tmp_path / kind / f"{number}.{kind}"
            if kind == "npz":
                np.savez(path, latents=item, crop=np.zeros(2))
            elif kind == "pt":
                torch.save({"latents": torch.from_numpy(item)}, path)
            else:
                save_file({"latents": item}, path)
    kinds = {
        "array": values, "safetensors": tmp_path / "a.safetensors", "npz": tmp_path / "a.npz",
        "npy": tmp_path / "a.npy", "shards": tmp_path / "shards", "one each": write_folder(tmp_path / "each", files),
        "zip of one each": write_zip(tmp_path / "a.zip", files),
        "tar of one each": write_tar(tmp_path / "a.tar", files),
        "npz each": tmp_path / "npz", "pt each": tmp_path / "pt", "safetensors each": tmp_path / "safetensors",
        "dictionary": {"images": values},
    }  # fmt: skip
    for name, data in kinds.items():
        source = open_source(data)
        assert (len(source), source.item_shape, source.dtype) == (11, (4, 6, 6), np.dtype(dtype)), name
        np.testing.assert_array_equal(source.block(0, 11), values, err_msg=name)
        np.testing.assert_array_equal(source.take([10, 0, 3]), values[[10, 0, 3]], err_msg=name)
        assert source.content_hash() == open_source(values).content_hash(), name


def test_containers_agree_on_natural_order(tmp_path):
    from tests.data.data_containers import gray

    files = {f"a/{number}.png": encoded(gray(number)) for number in (1, 10, 2, 30, 3)}
    for data in (
        write_folder(tmp_path / "d", files), write_zip(tmp_path / "a.zip", files), write_tar(tmp_path / "a.tar", files),
    ):  # fmt: skip
        source = open_source(data)
        assert source.block(0, 5)[:, 0, 0].tolist() == [1, 2, 3, 10, 30]
