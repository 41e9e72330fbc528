"""Tables whose rows are the items: headers, types, labels, scales, missing values."""

import decimal

import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from memfast.data import TableSource, open_source, open_sources
from memfast.foundation.errors import InputError

pa = pytest.importorskip("pyarrow", reason="the package pyarrow is not installed")
pd = pytest.importorskip("pandas", reason="pandas is not installed")

ROWS = pd.DataFrame({
    "age": [20, 35, 50, 65], "income": [1.5, 2.25, -3.0, 8.0], "city": ["Oslo", "Bonn", "Oslo", "Rome"],
    "class": ["b", "a", "b", "b"], "id": ["w", "x", "y", "z"],
})  # fmt: skip


def every_form(frame, folder):
    import polars as pl

    frame.to_csv(folder / "a.csv", index=False)
    frame.to_csv(folder / "a.tsv", index=False, sep="\t")
    frame.to_csv(folder / "semi.csv", index=False, sep=";")
    frame.to_csv(folder / "spaces.txt", index=False, sep=" ")
    frame.to_parquet(folder / "a.parquet")
    return {
        "spaces": folder / "spaces.txt",
        "csv": folder / "a.csv", "tsv": folder / "a.tsv", "semicolons": folder / "semi.csv",
        "parquet": folder / "a.parquet", "pandas": frame, "polars": pl.from_pandas(frame),
        "arrow": pa.Table.from_pandas(frame),
    }  # fmt: skip


@pytest.mark.parametrize("scale", [None, "standard", "minmax", "rank"])
def test_every_form_of_a_table_gives_the_same_rows(scale, tmp_path):
    pytest.importorskip("polars", reason="polars is not installed")
    frame = ROWS.assign(member=[True, False, True, True])
    sources = {name: open_source(data, scale=scale) for name, data in every_form(frame, tmp_path).items()}
    first = sources["csv"]
    for name, source in sources.items():
        np.testing.assert_array_equal(source.block(0, 4), first.block(0, 4), err_msg=name)
        assert (source.class_names, source.labels.tolist()) == (["a", "b"], [1, 0, 1, 1]), name
        assert [source.item_name(at) for at in range(4)] == ["w", "x", "y", "z"], name


def test_scales_against_scikit_learn():
    numbers = ROWS[["age", "income"]]
    for scale, scaler in (("standard", StandardScaler()), ("minmax", MinMaxScaler())):
        np.testing.assert_allclose(
            open_source(numbers, scale=scale).block(0, 4), scaler.fit_transform(numbers), atol=1e-14
        )
    from scipy.stats import rankdata

    values = pd.DataFrame({"v": [3.0, 1.0, 3.0, 9.0]})
    np.testing.assert_allclose(open_source(values, scale="rank").block(0, 4)[:, 0], (rankdata(values.v) - 0.5) / 4)
    np.testing.assert_array_equal(open_source(numbers).block(0, 4), numbers.to_numpy())


def test_mixed_types_give_gowers_distance_per_column():
    source = open_source(ROWS)
    block = source.block(0, 4)
    squared = ((block[:, None] - block[None]) ** 2).sum(-1)
    numbers = MinMaxScaler().fit_transform(ROWS[["age", "income"]])
    expected = ((numbers[:, None] - numbers[None]) ** 2).sum(-1)
    expected += ROWS.city.to_numpy()[:, None] != ROWS.city.to_numpy()[None]
    np.testing.assert_allclose(squared, expected, atol=1e-12)
    hot = OneHotEncoder(sparse_output=False).fit_transform(ROWS[["city"]]) * np.sqrt(0.5)
    np.testing.assert_allclose(block[:, 2:5], hot)


def test_a_second_set_takes_the_first_ones_scale():
    training = open_source(ROWS, scale="minmax")
    other = pd.DataFrame({
        "income": [8.0, 0.0], "city": ["Oslo", "Paris"], "age": [80, 20], "class": ["a", "b"], "id": ["p", "q"],
    })  # fmt: skip
    for source in (open_source(other, like=training), open_source(other).like(training)):
        block = source.block(0, 2)
        assert block.shape[1] == training.item_shape[0]
        assert [block[0, 0], block[0, 1], block[1, 0]] == pytest.approx([60 / 45, 1.0, 0.0])
        # A city that the training set does not have is 1 away from every city that it has.
        distances = ((block[1, 2:] - training.block(0, 4)[:, 2:]) ** 2).sum(-1)
        np.testing.assert_allclose(distances, 1)
    assert isinstance(training, TableSource)
    with pytest.raises(InputError, match="expected the columns age, income, city, received age"):
        open_source(ROWS[["age"]], like=training)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a,b\n1,\n2,3\n",
            "column 'b': expected a value in every row, received 1 missing, the first in row 0",
        ),
        ("a,b\n1,NA\n2,3\n", "column 'b': .*1 missing"),
        ("a,b\n1,2\n3\n", "row 1: expected 2 fields, as the header names, received 1"),
        ("a,a\n1,2\n", "a different name for each column"),
        ("a,b\n", "rows below the header"),
        ("1,2\n3,4\n", "a header line that names the columns.*label_column=0"),
        ("1,,2\n3,4,5\n", "line 1: expected a number in every field, received an empty field at place 2"),
        ('a;b\n"1,5";2\n"2,5";3\n', "numbers with a decimal point, received '1,5', with a comma"),
        ("a,b\n1,2\n3,-inf\n", "column 'b': expected finite values, received 1 infinite, the first in row 1"),
        ("a,when\n1,2020-02-30\n", "column 'when': expected dates and times that exist"),
        (",a\n0,1\n", r"received '', 'a'\. A first column without a name is the index that pandas wrote"),
        ("a,b\n1,\x002\n", ""),
    ],
)
def test_text_tables_that_cannot_be_trusted(text, message, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    if message:
        with pytest.raises(InputError, match=message):
            open_source(tmp_path / "a.csv")
    else:
        open_source(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "content",
    [b"a|b\n1|2\n3|4\n", b"# a,b\n1,2\n3,4\n", "a,b\n1,2\n3,4\n".encode("utf-16"), b"\xef\xbb\xbfa;b\r1;2\r3;4\r"],
    ids=["bars", "header of savetxt", "utf-16", "utf-8 with its mark"],
)
def test_every_spelling_of_a_text_table(content, tmp_path):
    (tmp_path / "a.csv").write_bytes(content)
    source = open_source(tmp_path / "a.csv")
    assert (list(source.columns), source.block(0, 2).tolist()) == (["a", "b"], [[1, 2], [3, 4]])


def test_times_and_labels_are_read_from_text_as_from_columns(tmp_path):
    frame = pd.DataFrame({
        "day": ["2020-01-01", "1969-12-31"], "time": ["2020-01-01T10:00:00.5", "2020-01-01 10:00"],
        "label": ["2.0", "1.0"],
    })  # fmt: skip
    frame.to_csv(tmp_path / "a.csv", index=False)
    typed = frame.assign(
        day=pd.to_datetime(frame.day),
        time=pd.to_datetime(frame.time, format="ISO8601"),
        label=frame.label.astype(float),
    )
    text, table = open_source(tmp_path / "a.csv"), open_source(typed)
    np.testing.assert_array_equal(text.block(0, 2), table.block(0, 2))
    assert text.labels.tolist() == table.labels.tolist() == [2, 1]


def test_files_of_sktime_are_refused_by_name(tmp_path):
    (tmp_path / "a.ts").write_text(
        "# made by hand\n@problemName a\n@classLabel true 1 2\n@data\n1.0,2.0:1\n2.0,1.0:2\n"
    )
    with pytest.raises(InputError, match=r"the \.ts format of sktime\. Load it with sktime"):
        open_source(tmp_path / "a.ts")


def test_sets_that_are_opened_together_share_one_scale():
    other = ROWS.assign(age=ROWS.age * 2)
    for given in (other, open_source(other), open_source(other, scale="rank")):
        sources = open_sources(test=given, training=ROWS, scale="minmax")
        assert list(sources) == ["training", "test"]
        np.testing.assert_array_equal(
            sources["test"].block(0, 4), open_source(other, like=sources["training"]).block(0, 4)
        )
        assert sources["test"].value_range == sources["training"].value_range == (0, 1)
    with pytest.raises(InputError, match="a table with the columns of training, received data without columns"):
        open_sources(training=ROWS, generated=np.zeros((4, 6)))
    with pytest.raises(InputError, match="a table with the columns of generated, received data without columns"):
        open_sources(training=np.zeros((4, 6)), generated=ROWS)
    plain = open_sources(training=ROWS[["age"]], generated=np.ones((4, 1)))
    assert plain["generated"].block(0, 1).tolist() == [[1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "rank"}, "scale: expected a table whose rows are the items"),
        ({"split": "train"}, "expected the split 'train', received data without splits"),
        ({"column": "x"}, "column: expected none, for data without named arrays or columns, received 'x'"),
        ({"label_column": 0}, "label_column: expected none, for data without named arrays or columns, received 0"),
    ],
    ids=str,
)
def test_an_option_that_cannot_apply_is_never_ignored(options, message):
    for data in (np.zeros((2, 4, 4), np.uint8), [np.zeros((4, 4), np.uint8)]):
        with pytest.raises(InputError, match=message):
            open_source(data, **options)


def test_quoted_text_and_odd_line_ends(tmp_path):
    rows = 'city,value\r\n"Bonn, West",1\r\n"a ""b""\u2028c",2\r\n"two\nlines",3\r\n'
    (tmp_path / "a.csv").write_text(rows, newline="")
    source = open_source(tmp_path / "a.csv")
    assert source.columns["city"] == ["Bonn, West", 'a "b"\u2028c', "two\nlines"]
    assert source.columns["value"].tolist() == [1, 2, 3]


def test_missing_values_are_named_in_every_form():
    for frame in (ROWS.assign(income=[1.0, None, 2.0, 3.0]), ROWS.assign(city=["a", None, "b", "c"])):
        with pytest.raises(InputError, match=r"column '\w+': expected a value in every row, received 1 missing"):
            open_source(frame)
        with pytest.raises(InputError, match=r"1 missing, the first in row 1"):
            open_source(pa.Table.from_pandas(frame))


def test_a_whole_first_column_is_a_value_unless_it_is_said_to_be_the_class(tmp_path):
    (tmp_path / "a.csv").write_text("age,height\n30,1.5\n40,1.75\n")
    source = open_source(tmp_path / "a.csv")
    assert (source.block(0, 2).tolist(), source.labels) == ([[30, 1.5], [40, 1.75]], None)
    source = open_source(tmp_path / "a.csv", label_column="age")
    assert (source.block(0, 2).tolist(), source.labels.tolist()) == ([[1.5], [1.75]], [30, 40])
    (tmp_path / "b.csv").write_text("3,1.5\n4,1.75\n")
    assert open_source(tmp_path / "b.csv", label_column=0).labels.tolist() == [3, 4]
    (tmp_path / "c.csv").write_text("0.3,1.5\n0.4,1.75\n")
    assert open_source(tmp_path / "c.csv").item_shape == (2,)
    with pytest.raises(InputError, match="label_column: expected one of age, height, received 'weight'"):
        open_source(tmp_path / "a.csv", label_column="weight")


@pytest.mark.parametrize(
    ("field", "label"),
    [("1e300", None), (str(2**53 + 1), 2**53 + 1), ("1.0000000e+00", 1), ("-3", -3), ("1.5", None), (str(2**63), None)],
)
def test_labels_of_ucr_text_are_exact(field, label, tmp_path):
    (tmp_path / "a.tsv").write_text(f"{field}\t0.5\t1.5\n7\t0.5\t1.5\n")
    if label is None:
        with pytest.raises(InputError, match="line 1: expected a class label, a whole number of at most 63 bits"):
            open_source(tmp_path / "a.tsv")
    else:
        assert open_source(tmp_path / "a.tsv").labels.tolist() == [label, 7]


def test_types_of_columns():
    frame = pd.DataFrame({
        "flag": [True, False], "when": pd.to_datetime(["2020-01-01", "2020-01-02"]),
        "kind": pd.Categorical(["a", "b"]), "small": np.array([1, 2], np.float32),
    })  # fmt: skip
    block = open_source(frame).block(0, 2)
    assert block[:, :2].tolist() == [[1, 0], [0, 1]]
    assert open_source(frame[["flag", "small"]]).dtype == np.float32
    assert open_source(frame[["when"]]).block(0, 2)[:, 0].tolist() == [1577836800.0, 1577923200.0]
    with pytest.raises(InputError, match="at most 1,000 categories, received 1,001 different texts"):
        open_source(pd.DataFrame({"text": [f"text {number}" for number in range(1001)]}))


def test_a_range_of_values_brings_floats_to_zero_to_one():
    values = np.random.default_rng(0).integers(0, 256, (5, 4, 4)).astype(np.float32)
    ours, theirs = open_source(values / 255, value_range=(0, 1)), open_source(values / 127.5 - 1, value_range=(-1, 1))
    np.testing.assert_allclose(ours.block(0, 5), theirs.block(0, 5), atol=1e-6)
    assert (ours.value_range, theirs.value_range, theirs.original_range) == ((0, 1), (0, 1), (-1, 1))
    np.testing.assert_array_equal(theirs.take([3]), theirs.block(3, 4))
    assert open_source(values).value_range is None
    with pytest.raises(InputError, match=r"value_range: expected \(0, 255\) for uint8"):
        open_source(values.astype(np.uint8), value_range=(0, 1))
    for bad in ((1, 0), (0, float("nan")), 3, (0, 1, 2)):
        with pytest.raises(InputError, match="value_range"):
            open_source(values, value_range=bad)


@pytest.mark.parametrize("value", [2**53 + 1, -(2**60), decimal.Decimal(2**53 + 1)])
def test_whole_numbers_that_float64_cannot_tell_apart_are_refused(tmp_path, value):
    """As floats they would equal their neighbours: items that differ would be copies of each other."""
    frame = pd.DataFrame({"code": [1, 2, value], "size": [0.1, 0.2, 0.3]})
    with pytest.raises(InputError, match=r"code.*expected whole numbers up to 2\*\*53.*row 2"):
        open_source(frame)
    if isinstance(value, int):
        frame.to_parquet(tmp_path / "a.parquet")
        frame.to_csv(tmp_path / "a.csv", index=False)
        for name in ("a.parquet", "a.csv"):
            with pytest.raises(InputError, match="code"):
                open_source(str(tmp_path / name))
    exact = pd.DataFrame({"code": [2**53 - 1, 2**53], "size": [0.1, 0.2]})
    assert open_source(exact).block(0, 2)[:, 0].tolist() == [2.0**53 - 1, 2.0**53]
