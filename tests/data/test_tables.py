"""Tables: numbers keep their type, rows without an image are bad images, and classes keep their names."""

import io

import numpy as np
import pytest
from PIL import Image

from memfast.data import open_source
from memfast.foundation.errors import InputError

pa = pytest.importorskip("pyarrow", reason="the package pyarrow is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="the package pyarrow is not installed")

ITEMS = np.random.default_rng(0).integers(0, 256, (3, 6, 5), dtype=np.uint8)


def png(item):
    content = io.BytesIO()
    Image.fromarray(item).save(content, "PNG")
    return content.getvalue()


def write(path, **columns):
    parquet.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64], ids=lambda dtype: dtype.__name__)
def test_numbers_keep_their_type_and_every_digit(dtype, tmp_path):
    values = (ITEMS / (1 if dtype == np.uint8 else 7)).astype(dtype)
    kind = pa.list_(pa.list_(pa.from_numpy_dtype(dtype)))
    path = write(tmp_path / "a.parquet", pixels=pa.array(values.tolist(), kind), label=[1, 0, 2])
    source = open_source(path)
    assert source.dtype == dtype
    np.testing.assert_array_equal(source.block(0, 3), values)
    assert source.labels.tolist() == [1, 0, 2]


def test_other_whole_numbers_are_refused_by_their_type(tmp_path):
    path = write(tmp_path / "a.parquet", image=ITEMS.astype(np.int64).tolist())
    with pytest.raises(InputError, match=r"expected uint8 .*received int64"):
        open_source(path)


@pytest.mark.parametrize("empty", [0, 1], ids=["first", "second"])
def test_a_row_without_an_image_is_a_bad_image(empty, tmp_path):
    rows = [{"bytes": png(item), "path": None} for item in ITEMS]
    rows[empty] = None
    path = write(tmp_path / "a.parquet", image=rows)
    with pytest.raises(InputError, match=rf"a\.parquet#{empty}: .*received a row without an image.*skip_bad"):
        open_source(path)
    source = open_source(path, skip_bad=True)
    np.testing.assert_array_equal(source.block(0, 2), np.delete(ITEMS, empty, axis=0))


def test_a_path_in_the_place_of_bytes_is_said(tmp_path):
    path = write(tmp_path / "a.parquet", image=[{"bytes": None, "path": "cat.png"}])
    with pytest.raises(InputError, match="received the path of a file instead of its bytes"):
        open_source(path)


def test_a_hugging_face_data_set_tells_the_names_of_its_classes(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["zebra", "ant"])})
    rows = {"image": [Image.fromarray(item) for item in ITEMS], "label": [0, 1, 0]}
    data = datasets.Dataset.from_dict(rows, features=features)
    data.to_parquet(tmp_path / "a.parquet")
    data.save_to_disk(tmp_path / "saved")
    for one in (data, tmp_path / "a.parquet", tmp_path / "saved"):
        source = open_source(one)
        assert (source.labels.tolist(), source.class_names) == ([0, 1, 0], ["zebra", "ant"])


def test_an_empty_field_in_a_list_is_named_by_its_row(tmp_path):
    path = write(tmp_path / "a.parquet", pixels=[[1.0, 2.0], [3.0, None], [4.0, 5.0]])
    with pytest.raises(InputError, match=r"column 'pixels': expected lists of one length .* an empty field in row 1"):
        open_source(path)


def test_rows_without_names_of_their_own(tmp_path):
    path = write(tmp_path / "a.parquet", pixels=[[1.0, 2.0], [3.0, 4.0]])
    assert open_source(path).item_name(1) == "a.parquet#1"
    assert open_source(pa.table({"pixels": [[1.0, 2.0], [3.0, 4.0]]})).item_name(1) == "1"
