"""Tables: parquet and arrow files, data sets of ``datasets``, and frames of pandas, polars and pyarrow.

A table is a column of encoded images, a column of lists of numbers, or plain columns whose rows are the items.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memfast.data.arrow_columns import holds_items, is_plain, number_type, stack
from memfast.data.format import Format, reading
from memfast.data.images import EncodedImages, decode_images
from memfast.data.labels import Labels, encode_labels, read_json
from memfast.data.listing import Folder
from memfast.data.memory import from_array, from_dataset
from memfast.data.not_read import PassedOver
from memfast.data.options import ReadingOptions
from memfast.data.source import Source
from memfast.data.splits import HUB_NAME, canonical
from memfast.data.tabular import rows_as_items
from memfast.foundation.errors import InputError, MissingPackageError

SUFFIXES = (".parquet", ".arrow")
IMAGE_COLUMNS = ("image", "img", "jpg", "png", "jpeg", "webp", "x", "pixel_values")
LABEL_COLUMNS = ("label", "labels", "class", "fine_label", "y", "cls", "target")
NAME_COLUMNS = ("id", "name", "file_name", "filename", "__key__")
OTHER_COLUMNS, CACHED = "columns that are not read", "cached results of .map (cache-*.arrow)"
EXPECTED = "readable parquet or arrow files"
_FRAMES = ("pandas", "polars", "pyarrow", "datasets")


class Tables(Format):
    """Parquet and arrow files, and tables in memory."""

    name = "tables"

    def claim(self, place: Folder) -> list[str]:
        """Every parquet and arrow file that is not a cache of ``datasets``."""
        every = place.ending(SUFFIXES)
        return [name for name in every if not _is_cache(name)] or every

    def describes_others(self, place: Folder, names: list[str]) -> bool:
        """Whether the tables hold no items, but tell about the files beside them, as img2dataset writes them."""
        try:
            schema = _schema(place.path(names[0]))
            return _data_column(place.what, schema, ReadingOptions()) is None
        except InputError:
            return False

    def read(self, place: Folder, names: list[str], options: ReadingOptions) -> Source:
        """The rows of these files, one file after the other."""
        for name in place.ending(SUFFIXES):
            if name not in names:
                place.passed.add(CACHED, name)
                place.use([name])
        place.use(names)
        what = place.what
        if place.root is not None:
            names, what, options = options.choose_split(what, names, place.passed)
            _check_one_configuration(what, names)
        options.refuse_split(what)
        table, options = read_files(what, [place.path(name) for name in names], options.take_column(), place.passed)
        return read_table(table, what, options, place.passed, base=f"{what.rsplit('/', 1)[-1]}#")

    def accepts(self, data: Any) -> bool:
        """Frames and tables of pandas, polars and pyarrow; data sets and dictionaries of splits of ``datasets``."""
        kind = type(data)
        root = kind.__module__.split(".")[0]
        return root in _FRAMES and kind.__name__ in ("DataFrame", "Table", "Dataset", "DatasetDict", "RecordBatch")

    def read_object(self, data: Any, name: str | None, options: ReadingOptions) -> Source:
        """The rows of a table in memory."""
        if isinstance(data, Mapping):
            split = _split_of_dict(data, options)
            name = f"{name or type(data).__name__}[{split}]"
            return self.read_object(data[split], name, options)
        name, passed = name or type(data).__name__, PassedOver()
        if len(data) == 0:
            raise InputError(name, expected="at least one item", received="none")
        formatted = getattr(data, "format", None)
        if isinstance(formatted, Mapping) and formatted.get("type") == "custom":
            return from_dataset(data, name=name, options=options)  # the caller's own transform makes the items
        column = _pictures_of_pandas(data, options)
        if column is not None:
            source = _pictures_of_frame(data, column, name, options, passed)
        else:
            with reading(name, "a table that Arrow can hold"):
                table = _arrow_table(data, name)
            source = read_table(table, name, options, passed, local_files=_is_data_set(data))
        source.not_read = passed.result()
        return source


def read_files(
    what: str, paths: Sequence[Path], options: ReadingOptions, passed: PassedOver
) -> tuple[Any, ReadingOptions]:
    """The needed columns of these files as one table.

    Raises:
        InputError: a file is damaged, or has no such column.
        MissingPackageError: pyarrow is not installed.
    """
    if not paths:
        raise InputError(what, expected="parquet or arrow files", received="none")
    with reading(what, EXPECTED):
        import pyarrow as arrow

        schema = _schema(paths[0])
        column = _data_column(what, schema, options)
        needed = None
        if column is not None:
            needed = [column, *_named_columns(schema, column, options)]
            for other in schema.names:
                if other not in needed:
                    passed.add(OTHER_COLUMNS, other)
        tables = [_read_file(path, needed, column) for path in paths]
        return arrow.concat_tables(tables, promote_options="default"), options
    raise InputError(what, expected=EXPECTED, received="nothing")


def read_table(
    table: Any, name: str, options: ReadingOptions, passed: PassedOver, *, base: str = "", local_files: bool = False
) -> Source:
    """The rows of an Arrow table.

    Args:
        table: with a column of images or lists of numbers, or plain columns.
        name: what errors call it.
        options: the column, the labels' column, and how to read images.
        passed: gets what is not read.
        base: what comes before the number in the name of a row without one.
        local_files: whether a row may name a file on this machine instead of holding its bytes.

    Raises:
        InputError: no such column, or a column of something else.
    """
    with reading(name, "a table that can be read"):
        column = _data_column(name, table.schema, options)
        if column is None:
            return rows_as_items(table, name, options, passed, LABEL_COLUMNS, NAME_COLUMNS)
        values, named = table.column(column), _named_columns(table.schema, column, options)
        if table.num_rows == 0 or values.null_count == len(values):
            raise InputError(name, expected="at least one row with an item", received=f"{len(values):,} empty rows")
        label_column = named[0] if named and named[0] in _label_names(options) else None
        name_column = next((one for one in named if one in NAME_COLUMNS and one != label_column), None)
        for other in table.column_names:
            if other not in (column, label_column, name_column):
                passed.add(OTHER_COLUMNS, other)
        names: Sequence[str] = _Names(base, table.num_rows, None if name_column is None else table.column(name_column))
        labels = _labels(table, label_column, passed, names)
        number = number_type(values.type)
        if number is not None:
            source = from_array(stack(name, column, values, number), name=name, labels=labels.values, names=names)
            source.class_names = labels.class_names
            return source
        _check_images(name, column, values)
        images = EncodedImages(names, lambda row: _content(values[row].as_py(), local_files), labels, passed)
        return decode_images(images, name=name, options=options)
    raise InputError(name, expected="a table", received="nothing")


class _Names(Sequence[str]):
    """Names of rows, made when they are asked for."""

    def __init__(self, base: str, count: int, column: Any = None) -> None:
        self._base, self._count, self._column = base, count, column

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(self._count))]
        row = int(row)
        if not 0 <= row < self._count:
            raise IndexError(row)
        value = None if self._column is None else self._column[row].as_py()
        return f"{self._base}{row}" if value is None else str(value)


def _check_one_configuration(what: str, names: Sequence[str]) -> None:
    """Raise where the hub's file names show several data sets: one part of one split can lie in one folder only."""
    folders: dict[str, str] = {}
    for name in names:
        folder, _, base = name.rpartition("/")
        if HUB_NAME.match(base) and folders.setdefault(base, folder) != folder:
            raise InputError(
                what, expected="one configuration of a data set",
                received=f"{base} in the folders {folders[base] or '.'!r} and {folder!r}",
                do="Give the folder of one of them.",
            )  # fmt: skip


def _is_cache(name: str) -> bool:
    base = name.rsplit("/", 1)[-1].lower()
    return base.startswith(("cache-", "indices-")) and base.endswith(".arrow")


def _split_of_dict(data: Mapping[str, Any], options: ReadingOptions) -> str:
    wanted = options.split
    if wanted is None and len(data) == 1:
        return next(iter(data))
    named = {canonical(split): split for split in data} | {split: split for split in data}
    found = None if wanted is None else named.get(wanted, named.get(canonical(wanted)))
    if found is None:
        received = ", ".join(data) or "none"
        first = next(iter(data), "train")
        raise InputError(
            "data", expected="one split" if wanted is None else f"the split {wanted!r}", received=received,
            do=f"Choose one: split={first!r}.",
        )  # fmt: skip
    return found


def _is_data_set(data: Any) -> bool:
    return type(data).__module__.split(".")[0] == "datasets"


def _pictures_of_pandas(data: Any, options: ReadingOptions) -> str | None:
    """The column of a frame that holds pictures or arrays as objects, which Arrow cannot hold."""
    if type(data).__module__.split(".")[0] != "pandas":
        return None
    wanted = IMAGE_COLUMNS if options.column is None else (options.column,)
    for column in wanted:
        # NumPy's numbers have the interface of arrays too.
        first = data[column].iloc[0] if column in data and len(data) else None
        if hasattr(first, "__array_interface__") and not np.isscalar(first):
            return column
    return None


def _pictures_of_frame(data: Any, column: str, name: str, options: ReadingOptions, passed: PassedOver) -> Source:
    label = next((one for one in _label_names(options) if one in data), None)
    pairs = list(zip(data[column], [None] * len(data) if label is None else data[label].tolist(), strict=True))
    source = from_dataset(pairs, name=name, options=options)
    passed.extend(source.not_read)
    for other in data.columns:
        if other not in (column, label):
            passed.add(OTHER_COLUMNS, str(other))
    return source


def _arrow_table(data: Any, name: str) -> Any:
    arrow = _arrow(name)
    if isinstance(data, arrow.Table):
        return data
    if isinstance(data, arrow.RecordBatch):
        return arrow.Table.from_batches([data])
    if _is_data_set(data):
        import json

        columns = data.format["columns"]
        table = data.with_format("arrow", columns=columns)[:]
        described = {"info": {"features": data.features.to_dict()}}
        return table.replace_schema_metadata({b"huggingface": json.dumps(described).encode()})
    if hasattr(data, "to_arrow"):
        return data.to_arrow()
    return arrow.Table.from_pandas(data, preserve_index=False)


def _arrow(what: str) -> Any:
    try:
        import pyarrow as arrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingPackageError("pyarrow", purpose=f"reading {what}", extra="audit") from error
    return arrow


def _schema(path: Path) -> Any:
    arrow = _arrow(str(path))
    with reading(str(path), EXPECTED):
        if path.suffix.lower() == ".parquet":
            return arrow.parquet.read_schema(path)
        with arrow.memory_map(str(path)) as stream:
            try:
                return arrow.ipc.open_stream(stream).schema
            except arrow.ArrowInvalid:
                return arrow.ipc.open_file(stream).schema


def _read_file(path: Path, needed: list[str] | None, column: str | None) -> Any:
    arrow = _arrow(str(path))
    with reading(str(path), EXPECTED):
        if path.suffix.lower() == ".parquet":
            with arrow.parquet.ParquetFile(path) as file:
                _check_not_empty(path, file.metadata, column)
                there = file.schema_arrow.names
                table = file.read(columns=None if needed is None else [name for name in needed if name in there])
        else:
            with arrow.memory_map(str(path)) as stream:
                try:
                    table = arrow.ipc.open_stream(stream).read_all()
                except arrow.ArrowInvalid:
                    table = arrow.ipc.open_file(stream).read_all()
            if needed is not None:
                table = table.select([name for name in needed if name in table.column_names])
        # One wrong byte in an arrow file can lead outside of its memory.
        table.validate(full=True)
        return table


def _check_not_empty(path: Path, metadata: Any, column: str | None) -> None:
    """Raise before a column of nothing but nulls is unpacked: a few bytes can stand for millions of rows."""
    if column is None or metadata.num_rows == 0:
        return
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            part = metadata.row_group(group).column(number)
            if part.path_in_schema.split(".")[0] != column:
                continue
            counted = part.statistics
            if counted is None or not counted.has_null_count or counted.null_count < part.num_values:
                return
    raise InputError(str(path), expected="at least one row with an item", received=f"{metadata.num_rows:,} empty rows")


def _data_column(what: str, schema: Any, options: ReadingOptions) -> str | None:
    """The column of images or lists of numbers; None where the rows of plain columns are the items."""
    if options.column is not None:
        if options.column not in schema.names:
            raise InputError(what, expected=f"a column {options.column!r}", received=", ".join(schema.names))
        return options.column
    for name in IMAGE_COLUMNS:
        if name in schema.names and (name in IMAGE_COLUMNS[:4] or not is_plain(schema.field(name).type)):
            return name
    usable = [name for name in schema.names if holds_items(schema.field(name).type)]
    if len(usable) == 1:
        return usable[0]
    if usable or not schema.names:
        raise InputError(
            what, expected="a column named " + ", ".join(IMAGE_COLUMNS),
            received=", ".join(schema.names) or "no columns", do="Name the column: PATH::COLUMN.",
        )  # fmt: skip
    return None


def _label_names(options: ReadingOptions) -> tuple[str, ...]:
    return LABEL_COLUMNS if options.label_column is None else (str(options.label_column),)


def _named_columns(schema: Any, data: str, options: ReadingOptions) -> list[str]:
    """The columns of labels and of names, those that are there."""
    labels = next((one for one in _label_names(options) if one in schema.names and one != data), None)
    if options.label_column is not None and labels is None:
        raise InputError(
            "label_column", expected=f"one of {', '.join(schema.names)}", received=repr(options.label_column)
        )
    names = next((one for one in NAME_COLUMNS if one in schema.names and one not in (data, labels)), None)
    return [one for one in (labels, names) if one is not None]


def _check_images(what: str, column: str, values: Any) -> None:
    """Raise unless the column's type is that of encoded images."""
    kind = values.type
    if holds_items(kind) or str(kind) == "null":
        return
    row = next((row for row in range(len(values)) if values[row].is_valid), 0)
    raise InputError(
        f"{what}: column {column!r}, row {row}", expected="an encoded image (bytes)",
        received=type(values[row].as_py()).__name__, do="Name another column: PATH::COLUMN.",
    )  # fmt: skip


def _content(value: Any, local_files: bool) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    if content is not None:
        return content
    path = value.get("path") if isinstance(value, dict) else None
    if path and local_files:
        if not Path(path).is_file():
            raise OSError(f"no file at {path}")
        return Path(path).read_bytes()
    raise ValueError("the path of a file instead of its bytes" if path else "a row without an image")


def _labels(table: Any, column: str | None, passed: PassedOver, names: Sequence[str]) -> Labels:
    if column is None:
        return Labels()
    values = table.column(column)
    given = values.to_numpy() if str(values.type).startswith("int") and not values.null_count else values.to_pylist()
    return encode_labels(given, passed, names.__getitem__, _class_names(table, column))


def _class_names(table: Any, column: str) -> list[str] | None:
    """The names that the notes of ``datasets`` in the table give the classes."""
    try:
        features = read_json((table.schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(one) for one in features[column]["names"]]
    except (KeyError, TypeError, ValueError):
        return None
