"""The folder of a kept index as data: immutable shards of packed items, columns of names and labels, one manifest.

::

    manifest.json                    schema, sources, shards with the SHA-256 of each of their files, hash of all items
    shard-00000/rows.npy             items as they were read, one after the other (absent where rows were not kept)
    shard-00000/items.parquet        one line per item: name, label, source, position in the source
    shard-00000/sketch.npy, slack.npy    what memfast.neighbors adds for the search, with transform.safetensors

A shard is written whole under a temporary name and renamed; the manifest names the shards that count. This file knows
nothing of searches: it writes, checks and reads items.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from memfast.data.format import Format
from memfast.data.listing import HIDDEN, Folder
from memfast.data.not_read import NotRead
from memfast.data.options import ReadingOptions
from memfast.data.source import Source
from memfast.foundation.errors import CheckpointError, InputError, first_line
from memfast.foundation.packages import optional_package
from memfast.foundation.values import file_hash
from memfast.runtime.files import EMPTY_SEAL, check_seal, json_text, seal, write_bytes

SCHEMA = "memfast.index/1"
MANIFEST = "manifest.json"
ROWS, ITEMS = "rows.npy", "items.parquet"
WRITER_LOCK = ".writer"
# Files that stay mapped, of rows and of sketches each: a process may hold few open at once.
OPEN_SHARDS = 24


def matches(path: Path) -> bool:
    """Whether ``path`` is the folder of an index."""
    if not (path / MANIFEST).is_file():
        return False
    try:
        with open(path / MANIFEST, "rb") as file:
            return SCHEMA.split("/")[0].encode() in file.read(400)
    except OSError:
        return False


class KeptIndexes(Format):
    """The folder of a kept index: its items."""

    name = "index"
    whole = True

    def claim(self, place: Folder) -> list[str]:
        """Everything in a folder that holds the manifest of an index."""
        return list(place.names) if place.root is not None and matches(place.root) else []

    def read(self, place: Folder, names: list[str], options: ReadingOptions) -> Source:
        """The items, in the order in which they were added."""
        assert place.root is not None
        place.use(names)
        # The index's own lock is no data that was passed over.
        place.passed.discard(HIDDEN, WRITER_LOCK)
        options.refuse_parts(place.what) if options.parts else None
        return StoredItems(place.root, skip_bad=options.skip_bad, reopen=options.reopen)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an index, checked against its own hash.

    Raises:
        InputError: the folder is no index.
        CheckpointError: its manifest is damaged, or of a schema that this version does not know.
    """
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except OSError:
        raise InputError(
            str(folder), expected="the folder of an index", received="a folder without manifest.json",
            do="Make one: memfast index DATA --out FOLDER.",
        ) from None  # fmt: skip
    try:
        stored = json.loads(content)
        schema = stored["schema"]
        if schema == SCHEMA:
            check_seal(content)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: damaged, or not the manifest of an index ({error}). Build the index again from its source."
        ) from error
    if schema != SCHEMA:
        raise CheckpointError(
            f"{path}: expected schema {SCHEMA}, received {schema!r}. Build the index again, or use the memfast that "
            "made it."
        )
    return stored


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Write the manifest with its hash, atomically: from then on its shards count."""
    write_bytes(folder / MANIFEST, seal(json_text({"seal": EMPTY_SEAL, "schema": SCHEMA, **content}).encode()))


def write_items(folder: Path, names: Sequence[str], labels: np.ndarray | None, source: int, first: int) -> None:
    """Write a shard's columns: item ``i`` is item ``first + i`` of the source of this number."""
    arrow, parquet = _arrow()
    columns = {
        "name": arrow.array(names, arrow.string()),
        "source": arrow.array(np.full(len(names), source, np.int32)),
        "position": arrow.array(np.arange(first, first + len(names), dtype=np.int64)),
    }
    if labels is not None:
        columns["label"] = arrow.array(labels.astype(np.int64))
    parquet.write_table(arrow.table(columns), folder / ITEMS)


def root_hash(dtype: np.dtype, item_shape: tuple[int, ...], shards: Sequence[dict[str, Any]]) -> str:
    """The hash of all items: of their kind and of the shards' contents, in order."""
    digest = hashlib.sha256(f"{dtype.str}{tuple(item_shape)}".encode())
    for shard in shards:
        digest.update(f"{shard['items']} {shard['content']}\n".encode())
    return digest.hexdigest()


class StoredItems:
    """The items of an index as a source: rows read in ranges, names and labels when they are asked for.

    Args:
        folder: the index.
        skip_bad: leave shards out whose files are missing or damaged, and list them in ``.skipped``. It rehashes all.
        reopen: opens the data that an index without rows points to: ``memfast.data.open_source``.

    Attributes:
        labels: int64 ``[N]`` class labels, or None where a source had none.

    Raises:
        InputError: the folder is no index.
        CheckpointError: it is damaged; the shard is named.
    """

    labels: np.ndarray | None

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        skip_bad: bool = False,
        reopen: Callable[..., Source] | None = None,
    ) -> None:
        self.folder, self._reopen = Path(folder), reopen
        self.not_read: Sequence[NotRead] = ()
        self.name = str(folder)
        self.manifest = read_manifest(self.folder)
        try:
            self._open(skip_bad)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self.folder / MANIFEST}: an entry is missing or wrong ({error!r}).") from error
        self._mapped = lru_cache(maxsize=OPEN_SHARDS)(self._map)
        self._columns = lru_cache(maxsize=4)(self._read_columns)
        self._sources: dict[int, Source] = {}

    def _open(self, skip_bad: bool) -> None:
        stored = self.manifest
        self.dtype = np.dtype(stored["dtype"])
        self.item_shape: tuple[int, ...] = tuple(stored["item_shape"])
        self.rows_kept = bool(stored["rows"])
        self.class_names: list[str] | None = stored["class_names"]
        skipped = [(str(name), str(reason)) for name, reason in stored["skipped"]]
        self.skipped: Sequence[tuple[str, str]] = skipped
        # What was done to the images of the first source: reports tell it.
        self.conversion: dict[str, Any] | None = stored["conversion"]
        self.shards: list[dict[str, Any]] = []
        for shard in stored["shards"]:
            for name in (shard["name"], *shard["files"]):
                if Path(name).name != name:
                    raise ValueError(f"{name!r} is no name of a file in the index")
            damage = shard_damage(self.folder, shard) if skip_bad else shard_missing(self.folder, shard)
            if damage is None:
                self.shards.append(shard)
            elif skip_bad:
                skipped.append((shard["name"], damage))
            else:
                raise CheckpointError(
                    f"{self.folder / shard['name']}: {damage}. Build the index again, or pass skip_bad=True "
                    "(--skip-bad) to leave this shard out."
                )
        self.starts = np.cumsum([0, *(int(shard["items"]) for shard in self.shards)])
        if not self.shards:
            raise CheckpointError(f"{self.folder}: the index holds no usable shard. Build it again from its source.")

    def __len__(self) -> int:
        return int(self.starts[-1])

    def shard_rows(self, number: int) -> np.ndarray | None:
        """A shard's items, memory-mapped as rows ``[n, D]``; None where rows were not kept."""
        return self._mapped(number) if self.rows_kept else None

    def block(self, start: int, stop: int) -> np.ndarray:
        """Items ``start`` to ``stop``."""
        stop = min(stop, len(self))
        parts = []
        for number, first, last in self.pieces(start, stop):
            parts.append(self._items(number, np.arange(first, last) if not self.rows_kept else slice(first, last)))
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty((0, *self.item_shape), self.dtype)

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The items of these indices, in this order."""
        indices = np.asarray(indices, dtype=np.int64)
        shard_of = np.searchsorted(self.starts, indices, "right") - 1
        items = np.empty((len(indices), *self.item_shape), self.dtype)
        for number in np.unique(shard_of):
            here = shard_of == number
            items[here] = self._items(int(number), indices[here] - self.starts[number])
        return items

    def item_name(self, index: int) -> str:
        """The item's name in its source."""
        number, place = self._place(index)
        return str(self._columns(number)["name"][place])

    def __getattr__(self, name: str) -> Any:
        # Labels stand in a file of each shard: they are read when somebody asks for them.
        if name != "labels":
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        columns = (
            [self._columns(number)["label"] for number in range(len(self.shards))] if self.manifest["labels"] else []
        )
        self.labels = np.concatenate([one.to_numpy() for one in columns]) if columns else None
        return self.labels

    def content_hash(self) -> str:
        """The hash of all items, known without reading them."""
        return root_hash(self.dtype, self.item_shape, self.shards)

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """(shard, first, last) of the ranges of shards that make up items ``start`` to ``stop``."""
        number = int(np.searchsorted(self.starts, start, "right")) - 1
        while number < len(self.shards) and self.starts[number] < stop:
            offset = int(self.starts[number])
            first, last = max(0, start - offset), min(stop - offset, int(self.shards[number]["items"]))
            if first < last:
                yield number, first, last
            number += 1

    def _place(self, index: int) -> tuple[int, int]:
        number = int(np.searchsorted(self.starts, index, "right")) - 1
        return number, int(index - self.starts[number])

    def _items(self, number: int, which: Any) -> np.ndarray:
        rows = self.shard_rows(number)
        if rows is not None:
            found = rows[which]
            return found.reshape(len(found), *self.item_shape)
        shard = self.shards[number]
        return self._source(shard["source"]).take(np.asarray(which, np.int64) + shard["first"])

    def _source(self, number: int) -> Source:
        """The data that an index without rows points to, unless it changed since."""
        if number not in self._sources:
            notes = self.manifest["sources"][number]
            check_source(notes)
            if self._reopen is None:
                raise InputError(str(self.folder), expected="an index opened by open_source", received="another")
            self._sources[number] = self._reopen(notes["path"], **notes["reading"])
        return self._sources[number]

    def _map(self, number: int) -> np.ndarray:
        shard = self.shards[number]
        path = self.folder / shard["name"] / ROWS
        try:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
            width = int(np.prod(self.item_shape, dtype=np.int64))
            if rows.dtype != self.dtype or rows.shape != (shard["items"], width):
                raise ValueError(f"it holds {rows.dtype} {list(rows.shape)}")
            return rows
        except (OSError, ValueError, EOFError) as error:
            raise CheckpointError(
                f"{path}: damaged ({first_line(error)}). Build the index again from its source."
            ) from error

    def _read_columns(self, number: int) -> Any:
        _, parquet = _arrow()
        shard = self.shards[number]
        path = self.folder / shard["name"] / ITEMS
        # Arrow's readers trust their files: only one with the right hash is given to them.
        if file_hash(path) != shard["files"][ITEMS]:
            raise CheckpointError(f"{path}: its content is not what the manifest says. Build the index again.")
        return parquet.read_table(path)


def shard_missing(folder: Path, shard: dict[str, Any]) -> str | None:
    """Why a shard cannot be used, as far as the sizes of its files tell; None where it can."""
    for name, size in shard["sizes"].items():
        path = folder / shard["name"] / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes in place of {size}"
    return None


def shard_damage(folder: Path, shard: dict[str, Any]) -> str | None:
    """Why a shard cannot be used, by the hashes of its files; None where they are as they were written."""
    missing = shard_missing(folder, shard)
    if missing is not None:
        return missing
    for name, expected in shard["files"].items():
        try:
            if file_hash(folder / shard["name"] / name) != expected:
                return f"the content of {name} changed"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def source_files(path: Path) -> list[list[Any]]:
    """Name, size and time of a source's files: equal values mean that nobody wrote to them since."""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    statuses = [(one, one.stat()) for one in files]
    return [
        [str(one.relative_to(path)) if one != path else one.name, status.st_size, status.st_mtime_ns]
        for one, status in statuses
    ]


def check_source(notes: dict[str, Any]) -> None:
    """Raise unless the files of a source are there, with the size and time that they had.

    Raises:
        InputError: a file is missing or changed; it is named.
    """
    if notes["path"] is None:
        raise InputError(notes["name"], expected="an index that holds its rows", received="one that does not")
    path = Path(notes["path"].partition("::")[0])
    do = "Restore it, or build the index again."
    if not path.exists():
        raise InputError(str(path), expected="the data that was indexed", received="nothing there", do=do)
    now, before = source_files(path), notes["files"]
    if isinstance(before, str):
        if files_hash(now) != before:
            raise InputError(str(path), expected="the files that were indexed", received="other ones", do=do)
        return
    found = {name: [size, time] for name, size, time in now}
    for name, size, time in before:
        if found.get(name) != [size, time]:
            received = "no such file" if name not in found else "one that was changed since"
            raise InputError(f"{path}: {name}", expected="the file that was indexed", received=received, do=do)


def files_hash(files: Sequence[Any]) -> str:
    """One hash for a long list of files."""
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _arrow() -> tuple[Any, Any]:
    needed = {"package": "pyarrow", "purpose": "a kept index", "extra": "audit"}
    return optional_package("pyarrow", **needed), optional_package("pyarrow.parquet", **needed)
