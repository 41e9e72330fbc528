"""Labels: found wherever people keep them, exact, and never lost without a note."""

import json
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image

from memfast.data import open_source
from memfast.data.labels import encode_labels
from memfast.data.not_read import PassedOver
from tests.data.data_containers import encoded, gray, reasons, write_folder, write_tar, write_zip

PNG = encoded(gray(7))
WRITERS = {"folder": write_folder, "zip": write_zip, "tar": write_tar}


@pytest.fixture(params=WRITERS)
def write(request, tmp_path):
    suffix = "" if request.param == "folder" else f".{request.param}"
    return lambda files: open_source(WRITERS[request.param](tmp_path / f"data{suffix}", files))


def classes(source):
    return [source.class_names[label] for label in source.labels]


def test_class_folders(write):
    source = write({"cat/1.png": PNG, "ant/10.png": PNG, "ant/2.png": PNG})
    assert (source.labels.tolist(), source.class_names) == ([0, 0, 1], ["ant", "cat"])


def test_class_folders_below_a_common_one(write):
    assert classes(write({"root/data/cat/1.png": PNG, "root/data/ant/2.png": PNG})) == ["ant", "cat"]


def test_class_folders_of_digits_keep_their_names(write):
    source = write({"007/1.png": PNG, "3/1.png": PNG})
    assert sorted(classes(source)) == ["007", "3"]


def test_two_spellings_of_one_class_are_one(write):
    composed, apart = unicodedata.normalize("NFC", "caf\u00e9"), unicodedata.normalize("NFD", "caf\u00e9")
    source = write({f"{composed}/1.png": PNG, f"{apart}/2.png": PNG, "a/3.png": PNG})
    assert source.class_names == ["a", composed]
    assert sorted(source.labels.tolist()) == [0, 1, 1]


@pytest.mark.parametrize("suffix", [".cls", ".json"])
@pytest.mark.parametrize("names", [["3", "10", "-2"], ["dog", "ant", "dog"]], ids=["numbers", "names"])
def test_labels_beside_the_images(write, suffix, names):
    files = {}
    for number, name in enumerate(names):
        files[f"{number}.png"] = PNG
        files[f"{number}{suffix}"] = name.encode() if suffix == ".cls" else json.dumps({"label": name}).encode()
    source = write(files)
    if source.class_names is None:
        assert source.labels.tolist() == [int(name) for name in names]
    else:
        assert classes(source) == names
    assert source.not_read == ()


def test_one_missing_label_is_minus_one_and_is_said(write):
    files = {f"{number}.png": PNG for number in range(3)} | {"0.cls": b"4", "2.cls": b"1"}
    source = write(files)
    assert source.labels.tolist() == [4, -1, 1]
    assert reasons(source) == {"missing labels": 1}


@pytest.mark.parametrize("content", [b"\xff\xfe", b""], ids=["no text", "empty"])
def test_an_unreadable_label_is_unknown_and_is_said(write, content):
    source = write({"0.png": PNG, "0.cls": content, "1.png": PNG, "1.cls": b"5"})
    assert source.labels.tolist() == [-1, 5]
    assert "missing labels" in reasons(source)


def test_json_that_is_nested_too_deep(write):
    deep = b"[" * 200_000 + b"]" * 200_000
    source = write({"0.png": PNG, "0.json": deep, "1.png": PNG, "1.json": b'{"label": 5}'})
    assert source.labels.tolist() == [-1, 5]
    assert reasons(source) == {"labels that cannot be read": 1, "missing labels": 1}


def test_labels_above_63_bits_keep_every_digit(write):
    source = write({"0.png": PNG, "0.cls": str(2**63).encode(), "1.png": PNG, "1.cls": b"1"})
    assert classes(source) == [str(2**63), "1"]


def test_dataset_json_of_edm(write):
    files = {f"00000/img{number:08d}.png": PNG for number in range(3)}
    labels = [[name, number + 5] for number, name in enumerate(files)]
    assert write({**files, "dataset.json": json.dumps({"labels": labels}).encode()}).labels.tolist() == [5, 6, 7]


def test_dataset_json_without_labels_makes_no_classes_of_its_folders(write):
    source = write({"00000/a.png": PNG, "00001/b.png": PNG, "dataset.json": b'{"labels": null}'})
    assert (source.labels, source.not_read) == (None, ())


@pytest.mark.parametrize("folder", ["", "pictures/"], ids=["here", "below"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_of_an_imagefolder(write, kind, folder):
    labels = {"1.png": "dog", "sub/2.png": "ant, small", "10.png": None, "caf\u00e9.png": "dog"}
    rows = [{"text": 'a "b"', "label": label, "file_name": name} for name, label in labels.items()]
    if kind == "csv":
        text = "\ufefftext,label,file_name\r\n" + "".join(
            f'"a ""b""","{row["label"] or ""}",{row["file_name"]}\r\n' for row in rows
        )
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    files = {f"{folder}{unicodedata.normalize('NFD', name)}": PNG for name in labels}
    source = write({**files, f"{folder}metadata.{kind}": text.encode()})
    named = {source.item_name(at).removeprefix(folder): label for at, label in enumerate(source.labels)}
    assert source.class_names == ["ant, small", "dog"]
    assert [named[name] for name in ("1.png", "sub/2.png", "10.png", "cafe\u0301.png")] == [1, 0, -1, 1]
    assert reasons(source) == {"missing labels": 1}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metadata.csv", b"file_name,text\na.png,a cat\n", ".csv files"),
        ("metadata.csv", b"id,label\na.png,cat\n", ".csv files"),
        ("metadata.csv", b"\xff\xfe\0", "labels that cannot be read"),
        ("metadata.jsonl", b"[1, 2]\n", "labels that cannot be read"),
        ("metadata.jsonl", b"{", "labels that cannot be read"),
    ],
    ids=["captions", "no names", "no text", "no objects", "damage"],
)
def test_metadata_that_gives_no_labels_is_counted(write, name, content, reason):
    source = write({"a.png": PNG, name: content})
    assert source.labels is None
    assert [one.removesuffix(" in an archive") for one in reasons(source)] == [reason]


def test_a_few_images_beside_class_folders_have_no_label(write):
    source = write({"cat/1.png": PNG, "ant/2.png": PNG, "cat/3.png": PNG, "cover.png": PNG})
    assert sorted(source.labels) == [-1, 0, 1, 1]
    assert reasons(source) == {"missing labels": 1}


def test_as_many_images_beside_folders_as_in_them_make_no_classes(write):
    assert write({"few/1.png": PNG, "more/1.png": PNG, "2.png": PNG, "3.png": PNG}).labels is None


def test_a_split_is_no_class(write):
    assert write({"train/1.png": PNG, "train/2.png": PNG}).labels is None


def test_classes_below_a_split(write):
    assert classes(write({"train/cat/1.png": PNG, "train/dog/2.png": PNG})) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("values", "expected", "names"),
    [
        ([True, False], [1, 0], None),
        ([1.0, 2.0, None], [1, 2, -1], None),
        ([np.float32(3), torch.tensor(4), np.array(5)], [3, 4, 5], None),
        (["b", "a", "", "b"], [1, 0, -1, 1], ["a", "b"]),
        (np.array(["x", "w"]), [1, 0], ["w", "x"]),
        ([b"x", b"w"], [1, 0], ["w", "x"]),
        (["01", "1"], [0, 1], ["01", "1"]),
        (np.array([2**63, 1], np.uint64), [1, 0], ["1", str(2**63)]),
        ([float("nan"), None], None, None),
        (["3.0", "2", "1.", ""], [3, 2, 1, -1], None),
        (["v1.5", "2.0"], [1, 0], ["2.0", "v1.5"]),
    ],
    ids=[
        "bool",
        "whole floats",
        "scalars",
        "text",
        "array of text",
        "bytes",
        "zeros",
        "64 bits",
        "nothing",
        "decimals in text",
        "versions",
    ],
)
def test_encoding(values, expected, names):
    found = encode_labels(values, PassedOver())
    assert (None if found.values is None else found.values.tolist(), found.class_names) == (expected, names)


@pytest.mark.parametrize("value", ["0.5", 0.5, 2.0**53, float("inf"), [1, 2], {"a": 1}], ids=str)
def test_labels_that_are_no_classes_are_left_out_and_said(value):
    passed = PassedOver()
    assert encode_labels([1, value], passed).values is None
    assert passed.result()[0].reason == "labels that are neither whole numbers nor names"
    source = open_source([(np.zeros((4, 4), np.uint8), 1), (np.zeros((4, 4), np.uint8), value)])
    assert (source.labels, source.not_read[0].names) == (None, ("list[1]",))


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"arr_0": 3, "arr_1": np.array([4, 5, 6])}, [4, 5, 6]),
        ({"x_train": 3, "y_train": np.array([[4], [5], [6]]), "x_test": 2, "y_test": np.arange(2)}, [4, 5, 6]),
        ({"images": 3, "labels": np.array(["b", "a", "b"])}, [1, 0, 1]),
        ({"samples": 3, "label": np.array([1.0, 2.0, 3.0])}, [1, 2, 3]),
    ],
    ids=["ADM", "keras", "text", "whole floats"],
)
def test_labels_of_npz(arrays, expected, tmp_path):
    items = {
        key: np.zeros((value, 4, 4, 3), np.uint8) if isinstance(value, int) else value for key, value in arrays.items()
    }
    np.savez(tmp_path / "a.npz", **items)
    assert open_source(tmp_path / "a.npz").labels.tolist() == expected


def test_fractions_as_labels_of_npz_are_said(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 4, 4), np.uint8), labels=np.array([0.5, 1.5]))
    source = open_source(tmp_path / "a.npz")
    assert (source.labels, reasons(source)) == (None, {"labels that are neither whole numbers nor names": 2})


def test_hugging_face_labels_in_every_format():
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["zebra", "ant"])})
    rows = {"image": [gray(value) for value in (1, 2, 3)], "label": [0, 1, 0]}
    data = datasets.Dataset.from_dict(rows, features=features)
    for one in (data, data.with_format("torch"), data.with_format("numpy"), data.with_format("arrow")):
        source = open_source(one)
        assert (source.labels.tolist(), source.class_names) == ([0, 1, 0], ["zebra", "ant"])
        assert source.block(0, 3)[:, 0, 0].tolist() == [1, 2, 3]
    flipped = data.with_transform(
        lambda batch: {**batch, "image": [Image.eval(one, lambda v: 255 - v) for one in batch["image"]]}
    )
    assert open_source(flipped).block(0, 3)[:, 0, 0].tolist() == [254, 253, 252]


def test_order_and_content_do_not_depend_on_the_spelling_of_accents(tmp_path):
    found = []
    for form in ("NFC", "NFD"):
        folder = tmp_path / form
        for number, name in enumerate(("\u00e91", "e", "f", "z")):
            write_folder(folder, {unicodedata.normalize(form, name) + ".png": encoded(gray(number))})
        found.append(open_source(str(folder)))
    assert found[0].content_hash() == found[1].content_hash()
