"""Features of a whole data set, kept in npy shards so that a second run, or one after a kill, pays nothing."""

import hashlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from memfast.data import open_source
from memfast.features.extractor import Extractor
from memfast.features.opening import open_extractor
from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError, OutputError
from memfast.foundation.progress import Progress
from memfast.runtime.files import read_json, write_bytes, write_json

CACHE_VARIABLE = "MEMFAST_CACHE"
DEFAULT_CACHE = Path("~/.cache/memfast")
BATCH_SIZE = 64
SHARD_ITEMS = 4096
_DIGEST = hashlib.sha256().digest_size
NOT_CACHED = "Not cached: the module has no identity. Pass one, such as identity='my-encoder-v3', to keep its features."


@dataclass(frozen=True)
class Features:
    """Extracted features.

    Attributes:
        values: float32 ``[N, D]``, read-only; a memory map's copy where they came from the cache.
        description: the extractor, its weights' hash and its preprocessing.
        key: SHA-256 of the description and the data: the name in the cache.
        reused: items that were in the cache already.
        note: why nothing was cached although a cache was asked for, and what to do; None otherwise.
    """

    values: np.ndarray
    description: dict[str, Any]
    key: str
    reused: int
    note: str | None = None


def extract(
    data: Any,
    extractor: Any,
    *,
    batch_size: int = BATCH_SIZE,
    cache: str | os.PathLike[str] | bool = True,
    shard_items: int = SHARD_ITEMS,
    progress: bool = False,
    **options: Any,
) -> Features:
    """Run an extractor over a data set.

    Every ``shard_items`` items are written to the cache as one npy file, whole or not at all, so that a killed run
    goes on where it was. The key is the hash of the items' content, of the extractor's identity, of its weights, of the
    preprocessing and of the dtype. A torch module is cached under the ``identity`` that you give it, and never without
    one; the result's ``note`` says so.

    Args:
        data: anything `memfast.data.open_source` reads.
        extractor: anything `memfast.features.open_extractor` takes.
        batch_size: items at a time.
        cache: True uses the folder in MEMFAST_CACHE, or ``~/.cache/memfast``; a path uses that; False keeps nothing.
        shard_items: items per file.
        progress: show progress.
        **options: of `open_extractor`: ``preprocessing``, ``device``, ``dtype``, ``identity``.

    Raises:
        InputError: an extractor that returns another shape, non-finite features (the item is named), no items.
    """
    source = open_source(data)
    if len(source) == 0:
        raise InputError("data", expected="at least one item", received="an empty set")
    whole_number("batch_size", batch_size, least=1)
    whole_number("shard_items", shard_items, least=1)
    opened: Extractor = open_extractor(extractor, **options)
    description = opened.describe()
    key = _key(description, source.content_hash())
    store = None
    if cache is not False and opened.repeatable:
        store = _Shards(_cache_folder(cache) / "features" / key, description)
    parts: list[np.ndarray] = []
    reused = 0
    with Progress(f"features {opened.name}", len(source), "items", show=progress) as shown:
        for start in range(0, len(source), shard_items):
            stop = min(start + shard_items, len(source))
            rows = store.read(start, stop) if store else None
            if rows is None:
                rows = _run(opened, source, start, stop, batch_size, shown)
                if store:
                    store.write(start, stop, rows)
            else:
                reused += stop - start
                shown.advance(stop - start)
            if parts and rows.shape[1] != parts[0].shape[1]:
                raise InputError(
                    f"extractor '{opened.name}'", expected=f"{parts[0].shape[1]} features", received=f"{rows.shape[1]}"
                )
            parts.append(rows)
    values = np.concatenate(parts)
    values.flags.writeable = False
    return Features(values, description, key, reused, NOT_CACHED if cache is not False and store is None else None)


def _run(extractor: Extractor, source: Any, start: int, stop: int, batch_size: int, shown: Progress) -> np.ndarray:
    parts = []
    for first in range(start, stop, batch_size):
        rows = extractor(source.block(first, min(first + batch_size, stop)))
        bad = ~np.isfinite(rows).all(axis=1)
        if bad.any():
            raise InputError(
                f"features of item {source.item_name(first + int(np.argmax(bad)))}",
                expected="finite values",
                received="a NaN or an infinity",
                do="Try dtype='float32', or leave the item out.",
            )
        parts.append(rows)
        shown.advance(len(rows))
    return np.concatenate(parts)


def _key(description: dict[str, Any], content: str) -> str:
    return hashlib.sha256(json.dumps([description, content], sort_keys=True).encode()).hexdigest()


def _cache_folder(cache: Any) -> Path:
    if cache is True:
        cache = os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE
    return Path(cache).expanduser()


class _Shards:
    """One folder of the cache: ``features.json`` and ``START-STOP.npy``, each followed by its SHA-256.

    NumPy reads such a file as any other. One that changed is extracted again.
    """

    def __init__(self, folder: Path, description: dict[str, Any]) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot make the cache folder {folder}: {error.strerror}. Set {CACHE_VARIABLE} or pass cache=False."
            ) from error
        notes = folder / "features.json"
        if _read_notes(notes) != description:
            write_json(notes, description)

    def read(self, start: int, stop: int) -> np.ndarray | None:
        try:
            content = self._path(start, stop).read_bytes()
            if hashlib.sha256(content[:-_DIGEST]).digest() != content[-_DIGEST:]:
                return None
            rows = np.load(io.BytesIO(content[:-_DIGEST]), allow_pickle=False)
        except (OSError, ValueError, EOFError, BadZipFile):
            return None
        whole = rows.dtype == np.float32 and rows.ndim == 2 and len(rows) == stop - start
        return rows if whole and np.isfinite(rows).all() else None

    def write(self, start: int, stop: int, rows: np.ndarray) -> None:
        buffer = io.BytesIO()
        np.save(buffer, rows, allow_pickle=False)
        write_bytes(self._path(start, stop), buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())

    def _path(self, start: int, stop: int) -> Path:
        return self.folder / f"{start:012d}-{stop:012d}.npy"


def _read_notes(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None
