"""Parquet files and Hugging Face data set folders: a column of encoded images, or of numbers, and maybe labels."""

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
    labels = _first(table, LABEL_COLUMNS)
    names = _first(table, NAME_COLUMNS)
    integer_labels = labels is not None and all(isinstance(label, int) for label in labels)
    values = table.column(column).to_pylist()
    if values and _is_numbers(values[0]):
        array = _stack(path, column, values)
        return from_array(array, name=str(path), labels=np.array(labels) if integer_labels else None, names=names)
    items = []
    for row, value in enumerate(values):
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise InputError(
                f"{path}: column {column!r}, row {row}", expected="an encoded image (bytes)",
                received=type(content).__name__, do="Name another column: PATH::COLUMN.",
            )  # fmt: skip
        name = str(names[row]) if names else f"{path.name}#{row}"
        items.append(ImageItem(name, partial(bytes, content), labels[row] if labels and integer_labels else None))
    return decode_images(items, name=str(path), **options)


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
    usable = [name for name, value in first.items() if isinstance(value, (bytes, dict)) or _is_numbers(value)]
    if len(usable) == 1:
        return usable[0]
    raise InputError(
        str(path), expected="a column named " + ", ".join(IMAGE_COLUMNS),
        received=", ".join(table.column_names) or "no columns", do="Name the column: PATH::COLUMN.",
    )  # fmt: skip


def _is_numbers(value: Any) -> bool:
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, float)


def _stack(path: Path, column: str, values: list) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path}: column {column!r}", expected="lists of one length in every row", received=str(error)
        ) from error


def _first(table: Any, names: tuple[str, ...]) -> list | None:
    for name in names:
        if name in table.column_names:
            return table.column(name).to_pylist()
    return None
