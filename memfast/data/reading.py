"""One door to data: whatever the user has becomes a source.

A format claims the files of a folder, or an object, and reads it; this file knows none of them by name.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from memfast.data.format import Format, reading
from memfast.data.formats import FORMATS
from memfast.data.images import ImageSource
from memfast.data.listing import Folder
from memfast.data.memory import from_dataset
from memfast.data.options import ReadingOptions
from memfast.data.rescaled import rescaled
from memfast.data.source import Source, is_source
from memfast.data.tabular import TableSource, on_the_scale_of
from memfast.foundation.errors import InputError

# One format may be read past stray files of another: where it has this many times as many.
CLEARLY_MORE = 2


def open_source(
    data: Any,
    *,
    skip_bad: bool = False,
    mode: str = "auto",
    image_size: int | None = None,
    name: str | None = None,
    progress: bool = False,
    split: str | None = None,
    column: str | None = None,
    label_column: str | int | None = None,
    scale: str | None = None,
    like: Any = None,
    files_hold: str | None = None,
    value_range: tuple[float, float] | None = None,
) -> Source:
    """Turn what the user has into a :class:`~memfast.data.Source`.

    docs/data.md says, format by format, what is read, how, and what never is. Every entry is either an item or counted
    in ``.not_read`` with its reason.

    Args:
        data: an array ``[N, ...]`` (uint8 images channels last, or floats), a tensor, a torch or Hugging Face data set,
            a frame of pandas, polars or pyarrow, a list of images or of paths, a source, or a path: a folder of images,
            npy, npz, pt, safetensors, a folder of such files (shards, or one item each), zip, tar or a folder of such
            archives (webdataset, img2dataset), parquet, a saved Hugging Face data set, csv with a header, UCR text.
            ``PATH::NAME`` names a split, and one array or column of a file that has several.
        skip_bad: leave unreadable images out and count them in ``.skipped`` instead of raising.
        mode: ``"L"``, ``"RGB"`` or ``"auto"``, for images.
        image_size: side in pixels to bring images to (centre crop, Lanczos); None refuses mixed sizes.
        name: what to call the data in messages and reports.
        progress: show progress while reading.
        split: which of several splits (``"train"``); the same as ``PATH::train``.
        column: which array or column holds the items; the same as ``PATH::NAME``.
        label_column: which array or column holds the labels, by its name or, in a table, its place.
        scale: of the columns of a table: ``"standard"``, ``"minmax"`` or ``"rank"``.
        like: the training set's source: a table takes its scale and categories. Other data stay as they are.
        files_hold: ``"one item"`` or ``"many items"``, for a folder of arrays where both could be.
        value_range: the values that mean 0 and 1; floats are brought to 0..1.

    Raises:
        InputError: nothing there, or nothing that can be read; the item is named.

    >>> import numpy as np
    >>> open_source(np.zeros((2, 4, 4), np.uint8)).item_shape
    (4, 4)
    """
    options = ReadingOptions(
        skip_bad,
        mode,
        image_size,
        split,
        column,
        label_column,
        scale,
        like,
        files_hold,
        value_range,
        (),
        progress,
        open_source,
    )
    with reading(name or _shown(data), "data that can be read"):
        source = data if is_source(data) else _open(data, name, options)
        if not is_source(data) and not isinstance(source, ImageSource):
            _check_needs_no_conversion(source, options)
        if scale is not None and not isinstance(source, TableSource):
            raise InputError(
                f"{source.name}: scale", expected="a table whose rows are the items",
                received=f"items of shape {list(source.item_shape)}", do="Leave scale out, or scale them yourself.",
            )  # fmt: skip
        if like is not None:
            source = on_the_scale_of(like, source)
        return source if options.value_range is None else rescaled(source, options.value_range)
    raise InputError("data", expected="data", received="nothing")


def open_sources(*, training: Any, generated: Any = None, test: Any = None, **options: Any) -> dict[str, Source]:
    """Open sets that will be compared, each under its own name; tables get the training set's scale and categories.

    Args:
        training: anything that `open_source` reads.
        generated: the same, or None.
        test: the same, or None.
        **options: of `open_source`, for all of them.

    Returns:
        The sets that were given, by name.

    Raises:
        InputError: as for `open_source`, or a table has other columns than the training set.

    >>> import numpy as np
    >>> list(open_sources(generated=np.zeros((2, 4)), training=np.zeros((3, 4))))
    ['generated', 'training']
    """
    reference = open_source(training, name="training", **options)
    others = {**options, "like": reference}
    sources = {
        "generated": None if generated is None else open_source(generated, name="generated", **others),
        "training": reference,
        "test": None if test is None else open_source(test, name="test", **others),
    }
    return {name: source for name, source in sources.items() if source is not None}


def _open(data: Any, name: str | None, options: ReadingOptions) -> Source:
    if isinstance(data, (str, os.PathLike)):
        return _open_path(os.fspath(data), options)
    if isinstance(data, (list, tuple)) and data and all(isinstance(one, (str, os.PathLike)) for one in data):
        return _read_place(Folder.of(name or "list of paths", data), options)
    for kind in FORMATS.values():
        if kind.accepts(data):
            return kind.read_object(data, name, options)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return from_dataset(data, name=name, options=options)
    raise InputError(
        name or "data", expected="an array, a tensor, a data set or a path", received=type(data).__name__,
        do="Collect an iterable into a list first." if hasattr(data, "__iter__") else "",
    )  # fmt: skip


def _open_path(text: Any, options: ReadingOptions) -> Source:
    text = os.fsdecode(text)
    path, *parts = [text] if os.path.lexists(text.replace("\0", "")) else text.split("::")
    if not path:
        raise InputError("data", expected="a path", received="an empty one")
    place = Folder.at(Path(path).expanduser())
    return _read_place(place, replace(options, parts=tuple(part for part in parts if part)))


def _read_place(place: Folder, options: ReadingOptions) -> Source:
    if place.root is not None and not place.names and not place.passed.result():
        raise InputError(place.what, expected="a folder with data", received="an empty folder")
    claims = {kind: names for kind in FORMATS.values() if (names := kind.claim(place))}
    if not claims:
        raise _nothing_to_read(place)
    kind, options = _choose_format(place, claims, options)
    source = kind.read(place, claims[kind], options)
    place.pass_over_rest()
    source.not_read = place.passed.result()
    return source


def _choose_format(
    place: Folder, claims: dict[Format, list[str]], options: ReadingOptions
) -> tuple[Format, ReadingOptions]:
    """The one format of a folder; stray files of another are counted, as much of another is a question."""
    whole = next((kind for kind in claims if kind.whole), None)
    if whole is not None:
        return whole, options
    named = next((kind for kind in claims if options.parts and kind.name == options.parts[0]), None)
    if named is not None and len(claims) > 1:
        return named, replace(options, parts=options.parts[1:])
    if len(claims) > 1:
        claims = {kind: names for kind, names in claims.items() if not kind.describes_others(place, names)} or claims
    most = max(claims, key=lambda kind: len(claims[kind]))
    others = [kind for kind in claims if kind is not most]
    if sum(len(claims[kind]) for kind in others) * CLEARLY_MORE > len(claims[most]):
        kinds = " and ".join(f"{len(names):,} of {kind.name}" for kind, names in claims.items())
        examples = " and ".join(names[0] for kind, names in reversed(claims.items()))
        raise InputError(
            place.what, expected="one kind of data", received=f"both, for example {examples} ({kinds})",
            do=f"Name the file or the subfolder that holds the data, or the kind: PATH::{most.name}.",
        )  # fmt: skip
    return most, options


def _nothing_to_read(place: Folder) -> InputError:
    if place.root is None:
        suffix = Path(place.names[0]).suffix
        return InputError(
            place.what, expected="an image, npy, npz, pt, safetensors, zip, tar, parquet, arrow, csv or UCR text",
            received=f"a {suffix} file" if suffix else "a file without a suffix",
        )  # fmt: skip
    place.pass_over_rest()
    found = ", ".join(f"{one.count:,} {one.reason}" for one in place.passed.result())
    return InputError(
        place.what, expected="a folder with images", received=f"a folder without any ({found})",
        do="Give a folder of png, jpg, bmp, gif, tif or webp files (subfolders are searched), of arrays, archives or "
        "parquet files; give a text table by the path of its file.",
    )  # fmt: skip


def _check_needs_no_conversion(source: Source, options: ReadingOptions) -> None:
    """Raise where a size or mode was asked for that an array does not have: arrays are taken as they are."""
    shape: Sequence[int] = source.item_shape
    size, mode = options.image_size, options.mode
    do = "Convert the array first, or leave the option out: only files of images are converted."
    if size is not None and tuple(shape[:2]) != (size, size):
        raise InputError(
            f"{source.name}: image_size (--image-size)", expected=f"items of {size}x{size}",
            received=f"an array of items {list(shape)}", do=do,
        )  # fmt: skip
    if mode != "auto" and len(shape) != {"L": 2, "RGB": 3}[mode]:
        raise InputError(
            f"{source.name}: mode (--mode)", expected=f"images of mode {mode}",
            received=f"an array of items {list(shape)}", do=do,
        )  # fmt: skip


def _shown(data: Any) -> str:
    return os.fsdecode(data) if isinstance(data, (str, os.PathLike)) else type(data).__name__
