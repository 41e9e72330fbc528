"""Columns of Arrow tables: which hold items, and lists of numbers as one array."""

from typing import Any

import numpy as np

from memfast.foundation.errors import InputError


def is_plain(kind: Any) -> bool:
    """Whether a column of this arrow type holds one number, text or time per row."""
    import pyarrow.types as types

    return not (_is_list(_storage(kind)) or types.is_nested(_storage(kind)) or _is_bytes(kind))


def holds_items(kind: Any) -> bool:
    """Whether a column of this arrow type can hold items: encoded images, or lists of numbers."""
    import pyarrow.types as types

    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return _is_bytes(kind) or number_type(kind) is not None


def number_type(kind: Any) -> np.dtype | None:
    """The dtype of the numbers in lists of this arrow type, or None where it holds something else."""
    import pyarrow.types as types

    kind = _storage(kind)
    if not _is_list(kind):
        return None
    while _is_list(kind):
        kind = _storage(kind.value_type)
    return np.dtype(kind.to_pandas_dtype()) if types.is_floating(kind) or types.is_integer(kind) else None


def stack(what: str, column: str, values: Any, dtype: np.dtype) -> np.ndarray:
    """Lists of one length as one array, without a Python object per number."""
    parts, start = [], 0
    for chunk in values.chunks:
        if len(chunk):
            parts.append(_dense(f"{what}: column {column!r}", chunk, start))
        start += len(chunk)
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) != 1:
        raise _uneven(f"{what}: column {column!r}", " and ".join(str(list(shape)) for shape in sorted(shapes)))
    return np.concatenate(parts).astype(dtype, copy=False)


def _storage(kind: Any) -> Any:
    return getattr(kind, "storage_type", kind)


def _is_list(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    tests = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
    return any(test(kind) for test in tests) or str(kind) == "binary_view"


def _dense(what: str, rows: Any, start: int) -> np.ndarray:
    values, shape = rows, [len(rows)]
    while True:
        values = values.storage if hasattr(values, "storage") else values
        if values.null_count:
            row = next(row + start for row, value in enumerate(rows) if _has_none(value.as_py()))
            raise _uneven(what, f"an empty field in row {row}")
        if not _is_list(values.type):
            return values.to_numpy(zero_copy_only=False).reshape(shape)
        lengths = np.unique(values.value_lengths().to_numpy(zero_copy_only=False))
        if len(lengths) != 1:
            raise _uneven(what, f"lists of {lengths.min()} to {lengths.max()} values")
        shape.append(int(lengths[0]))
        values = values.flatten()


def _has_none(value: Any) -> bool:
    return any(map(_has_none, value)) if isinstance(value, list) else value is None


def _uneven(what: str, received: str) -> InputError:
    return InputError(what, expected="lists of one length in every row", received=received)
