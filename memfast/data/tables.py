"""Parquet files and Hugging Face data set folders: a column of encoded images, or of numbers, and maybe labels."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from memfast.data.images import ImageItem, decode_images
from memfast.data.memory import from_array
from memfast.data.source import Source
from memfast.foundation.errors import InputError, MissingPackageError

IMAGE_COLUMNS = ("image", "img", "jpg", "png")
LABEL_COLUMNS = ("label", "labels", "class", "fine_label", "y")
NAME_COLUMNS = ("id", "name", "file_name", "filename", "__key__")


def matches(path: Path) -> bool:
    """Whether ``path`` is a parquet or arrow file, or a folder of them (a data set saved by ``datasets``)."""
    if path.is_dir():
        return any(path.glob("*.parquet")) or any(path.glob("**/*.parquet")) or (path / "dataset_info.json").exists()
    return path.suffix.lower() in (".parquet", ".arrow")


def read(path: Path, *, part: str | None = None, **options: Any) -> Source:
    """The rows of a table.

    Args:
        path: file or folder.
        part: the column that holds the images or numbers; without it ``image``, ``img``, ``jpg``, ``png``, or the
            only column of bytes or lists.
        options: as for images.

    Raises:
        InputError: no such column, or a column that is not an image.
        MissingPackageError: pyarrow is not installed.
    """
    table = _read_table(path)
    column = part or _find_column(path, table)
    if column not in table.column_names:
        raise InputError(str(path), expected=f"a column {column!r}", received=", ".join(table.column_names))
    labels, class_names = _labels(table)
    names = _first(table, NAME_COLUMNS)
    number = _number_type(table.schema.field(column).type)
    values = table.column(column).to_pylist()
    if values and number is not None:
        array = _stack(path, column, values, number)
        source = from_array(array, name=str(path), labels=None if labels is None else np.array(labels), names=names)
        source.class_names = class_names
        return source
    items = []
    for row, value in enumerate(values):
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is not None and not isinstance(content, bytes):
            raise InputError(
                f"{path}: column {column!r}, row {row}", expected="an encoded image (bytes)",
                received=type(content).__name__, do="Name another column: PATH::COLUMN.",
            )  # fmt: skip
        name = str(names[row]) if names else f"{path.name}#{row}"
        label = None if labels is None else labels[row]
        items.append(ImageItem(name, partial(_content, content, value), label))
    return decode_images(items, name=str(path), class_names=class_names, **options)


def _content(content: bytes | None, value: Any) -> bytes:
    if content is None:
        outside = isinstance(value, dict) and value.get("path")
        raise ValueError("the path of a file instead of its bytes" if outside else "a row without an image")
    return content


def _read_table(path: Path) -> Any:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingPackageError("pyarrow", purpose=f"reading {path}", extra="audit") from error
    files = [path] if path.is_file() else sorted([*path.rglob("*.parquet"), *path.rglob("*.arrow")])
    if not files:
        raise InputError(str(path), expected="parquet or arrow files", received="none")
    try:
        tables = [parquet.read_table(file) if file.suffix == ".parquet" else _read_arrow(file) for file in files]
        return arrow.concat_tables(tables, promote_options="default")
    except (arrow.ArrowInvalid, OSError) as error:
        raise InputError(str(path), expected="readable parquet or arrow files", received=str(error)) from error


def _read_arrow(file: Path) -> Any:
    import pyarrow as arrow

    with arrow.memory_map(str(file)) as stream:
        try:
            return arrow.ipc.open_stream(stream).read_all()
        except arrow.ArrowInvalid:
            return arrow.ipc.open_file(stream).read_all()


def _find_column(path: Path, table: Any) -> str:
    for name in IMAGE_COLUMNS:
        if name in table.column_names:
            return name
    first = {name: table.column(name)[0].as_py() for name in table.column_names} if table.num_rows else {}
    kinds = {name: _number_type(table.schema.field(name).type) for name, value in first.items() if type(value) is list}
    usable = [name for name, value in first.items() if isinstance(value, (bytes, dict)) or kinds.get(name) is not None]
    if len(usable) == 1:
        return usable[0]
    raise InputError(
        str(path), expected="a column named " + ", ".join(IMAGE_COLUMNS),
        received=", ".join(table.column_names) or "no columns", do="Name the column: PATH::COLUMN.",
    )  # fmt: skip


def _number_type(kind: Any) -> np.dtype | None:
    """The dtype of the numbers in lists of this arrow type, or None where it holds something else."""
    import pyarrow.types as types

    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind = kind.value_type
    return np.dtype(kind.to_pandas_dtype()) if types.is_floating(kind) or types.is_integer(kind) else None


def _stack(path: Path, column: str, values: list, dtype: np.dtype) -> np.ndarray:
    try:
        return np.asarray(values, dtype=dtype)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path}: column {column!r}", expected="lists of one length in every row", received=str(error)
        ) from error


def _labels(table: Any) -> tuple[list[int] | None, list[str] | None]:
    """Whole numbers of the first label column, and the names that Hugging Face's notes in the table give them."""
    name = next((name for name in LABEL_COLUMNS if name in table.column_names), None)
    labels = None if name is None else table.column(name).to_pylist()
    if labels is None or not all(isinstance(label, int) for label in labels):
        return None, None
    try:
        features = json.loads((table.schema.metadata or {})[b"huggingface"])["info"]["features"]
        return labels, [str(one) for one in features[name]["names"]]
    except (KeyError, TypeError, ValueError):
        return labels, None


def _first(table: Any, names: tuple[str, ...]) -> list | None:
    for name in names:
        if name in table.column_names:
            return table.column(name).to_pylist()
    return None
