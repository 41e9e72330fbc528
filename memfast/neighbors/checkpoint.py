"""A search that survives being killed: state in a folder, each file whole or absent, inputs known by their hashes.

Layout: ``manifest.json`` (parameters and the plan), ``part-P/group-G.safetensors`` (finished lists of one query group
over one part of the database), ``part-P/progress.safetensors`` (the group in work), ``result.safetensors``.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from memfast.foundation.errors import CheckpointError, OutputError
from memfast.neighbors.rows import RowReader
from memfast.neighbors.topk import RunningTopK
from memfast.runtime.files import read_json, write_bytes, write_json

FORMAT = 1
MANIFEST = "manifest.json"
# Saving takes at most this share of the time between two saves.
SAVE_SHARE = 0.01
FIRST_SAVE_COST = 0.01
_HASH = 32
_HASH_BYTES = 1 << 22


def hash_rows(rows: RowReader) -> str:
    """SHA-256 of dtype, shape and values, read in ranges."""
    digest = hashlib.sha256(f"{rows.dtype.str}{rows.length}x{rows.width}".encode())
    step = max(1, _HASH_BYTES // max(1, rows.width * rows.dtype.itemsize))
    for start in range(0, rows.length, step):
        digest.update(np.ascontiguousarray(rows.read(start, min(start + step, rows.length))).data)
    return digest.hexdigest()


class SearchCheckpoint:
    """The folder of one search.

    Args:
        folder: new, empty, or of the same search.
        parameters: everything that decides the result, as JSON values.

    Raises:
        OutputError: the folder holds something else.
        CheckpointError: it belongs to another search (the text names what differs), or is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str], parameters: dict[str, Any]) -> None:
        self.folder, self.parameters = Path(folder), {"format": FORMAT, **parameters}
        manifest = self.folder / MANIFEST
        self._stored = _read_manifest(manifest) if manifest.exists() else None
        if self._stored is not None:
            _check_same(manifest, self._stored["parameters"], self.parameters)
        elif self.folder.exists() and (
            not self.folder.is_dir() or any(not _is_temporary(one) for one in self.folder.iterdir())
        ):
            raise OutputError(
                f"{self.folder}: expected a new folder or one with a checkpoint, received one that holds other things. "
                "Choose another folder."
            )

    def plan(self, proposed: dict[str, Any]) -> dict[str, Any]:
        """The plan the search began with; ``proposed`` (now written down) where it begins now."""
        if self._stored is None:
            self._stored = {"parameters": self.parameters, "plan": proposed}
            write_json(self.folder / MANIFEST, self._stored)
        return self._stored["plan"]

    def result(self, k: int) -> tuple[RunningTopK, dict[str, Any]] | None:
        """The finished result and what was noted with it, or None."""
        path = self.folder / "result.safetensors"
        if not path.exists():
            return None
        tensors, notes = _read(path)
        return _lists(tensors, notes), notes

    def finish(self, lists: RunningTopK, identity: Any) -> None:
        """Write the finished result."""
        _write(self.folder / "result.safetensors", lists, {"identity": identity})


class PartStore:
    """The state of one part of the database: hashes of its units, finished groups, the group in work.

    Args:
        folder: the checkpoint's folder, or None to keep nothing.
        number: the part's number.
        first_row: the part's first database row.
        unit_rows: rows per unit.
        rows: the database, to name rows in errors.
    """

    def __init__(self, folder: Path | None, number: int, first_row: int, unit_rows: int, rows: RowReader) -> None:
        self.folder = None if folder is None else folder / f"part-{number:05d}"
        self.rows, self.first_row, self.unit_rows = rows, first_row, unit_rows
        self._hashes: list[bytes] = []
        self._read = False
        self._pending: dict[int, RunningTopK] = {}
        self._saved, self._cost = time.monotonic(), FIRST_SAVE_COST
        self._progress: tuple[int, int, RunningTopK] | None = None
        if self.folder is not None and self.folder.is_dir():
            self._restore(self.folder)

    def group(self, number: int) -> RunningTopK | None:
        """The finished lists of a group, or None."""
        if self.folder is None or not self._group_path(number).exists():
            return None
        tensors, notes = _read(self._group_path(number))
        return _lists(tensors, notes)

    def progress(self, number: int) -> tuple[int, RunningTopK] | None:
        """Units done and lists of a group in work, or None."""
        if self._progress is None or self._progress[0] != number:
            return None
        return self._progress[1], self._progress[2]

    def see(self, unit: int, block: np.ndarray) -> None:
        """Note a unit's hash, or compare it with the one noted before.

        Raises:
            CheckpointError: the unit differs from what it was.
        """
        if self.folder is None:
            return
        self._read = True
        digest = _digest(block)
        if unit == len(self._hashes):
            self._hashes.append(digest)
        elif digest != self._hashes[unit]:
            first = self.first_row + unit * self.unit_rows
            raise CheckpointError(
                f"the database changed since this search began: rows {first} to {first + len(block) - 1} "
                f"({self.rows.locate(first)} and following) have other content. Nothing was merged. "
                "Restore the data, or start again in a new folder."
            )

    def check_unread(self, units: Iterable[np.ndarray]) -> None:
        """Check all units against their hashes, unless this run has read them anyway.

        Raises:
            CheckpointError: one differs from what it was.
        """
        if self.folder is None or self._read:
            return
        for unit, block in enumerate(units):
            self.see(unit, block)

    def note(self, group: int, units: int, lists: RunningTopK, *, now: bool = False) -> None:
        """Offer the state of the group in work; it is saved when a save is due, or ``now``."""
        if self.folder is None or not (now or self._due()):
            return
        self._flush()
        started = time.monotonic()
        _write(self.folder / "progress.safetensors", lists, {"group": group, "units": units}, self._hashes)
        self._count(started)

    def finish_group(self, number: int, lists: RunningTopK) -> None:
        """Keep a finished group; it is saved when a save is due, at the latest by ``close``."""
        if self.folder is not None:
            self._pending[number] = lists
            if self._due():
                self._flush()

    def close(self) -> None:
        """Save what is still pending."""
        if self.folder is not None and self._pending:
            self._flush()

    def _due(self) -> bool:
        return time.monotonic() - self._saved >= self._cost / SAVE_SHARE

    def _count(self, started: float) -> None:
        self._saved = time.monotonic()
        self._cost = self._saved - started

    def _flush(self) -> None:
        started = time.monotonic()
        for number, lists in self._pending.items():
            _write(self._group_path(number), lists, {}, self._hashes)
        if self._pending:
            self._pending.clear()
            self._count(started)

    def _group_path(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"group-{number:05d}.safetensors"

    def _restore(self, folder: Path) -> None:
        for path in folder.iterdir():
            if _is_temporary(path):
                path.unlink()
        for path in sorted(folder.glob("*.safetensors")):
            tensors, notes = _read(path)
            hashes = [row.tobytes() for row in tensors["unit_hashes"]]
            if len(hashes) > len(self._hashes):
                self._hashes = hashes
            if path.name == "progress.safetensors":
                self._progress = (notes["group"], notes["units"], _lists(tensors, notes))


def _digest(block: np.ndarray) -> bytes:
    """SHA-256 of the SHA-256s of the block's pieces, which all cores compute together."""
    values = np.ascontiguousarray(block).reshape(-1).view(np.uint8)
    pieces = [values[start : start + _HASH_BYTES].data for start in range(0, len(values), _HASH_BYTES)]
    with ThreadPoolExecutor(max_workers=min(len(pieces), os.cpu_count() or 1)) as pool:
        return hashlib.sha256(b"".join(pool.map(lambda piece: hashlib.sha256(piece).digest(), pieces))).digest()


def _write(path: Path, lists: RunningTopK, notes: dict[str, Any], hashes: list[bytes] | None = None) -> None:
    tensors = {"squared_distances": lists.squared_distances, "indices": lists.indices}
    if hashes is not None:
        # The reader may add to the list meanwhile: take what is there now.
        known = list(hashes)
        tensors["unit_hashes"] = np.frombuffer(b"".join(known), np.uint8).reshape(len(known), _HASH)
    write_bytes(path, save(tensors, {"notes": json.dumps({**notes, "fallbacks": lists.fallbacks})}))


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["notes"])  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: damaged ({error}). Remove the folder {path.parent} to search this part again."
        ) from error


def _lists(tensors: dict[str, np.ndarray], notes: dict[str, Any]) -> RunningTopK:
    lists = RunningTopK.__new__(RunningTopK)
    # Arrays read by safetensors may be views of a read-only buffer.
    lists.squared_distances, lists.indices = tensors["squared_distances"].copy(), tensors["indices"].copy()
    lists.fallbacks = notes["fallbacks"]
    return lists


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        stored = read_json(path)
        return {"parameters": dict(stored["parameters"]), "plan": dict(stored["plan"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a readable manifest ({error}). Use a new folder.") from error


def _check_same(path: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name in wanted:
        if stored.get(name) != wanted[name]:
            before, now = _first_difference(stored.get(name), wanted[name])
            raise CheckpointError(
                f"{path}: belongs to another search: {name} was {before}, is now {now}. Nothing was merged. "
                "Use a new folder, or the same data and options."
            )


def _first_difference(before: Any, now: Any) -> tuple[Any, Any]:
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return next((pair for pair in zip(before, now, strict=True) if pair[0] != pair[1]), (before, now))
    return before, now


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".part")
