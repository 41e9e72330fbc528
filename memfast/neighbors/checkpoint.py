"""A search that survives being killed: state in a folder, each file whole or absent, inputs known by their hashes.

Layout: ``manifest.json`` (parameters and the plan), ``part-P/group-G.safetensors`` (finished lists of one query group
over one part of the database), ``part-P/progress.safetensors`` (the group in work), ``result.safetensors``. Every file
holds a hash of itself and the name of its search, so that a changed byte or a file of another search is an error.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from memfast.foundation.errors import CheckpointError, OutputError
from memfast.neighbors.rows import RowReader
from memfast.neighbors.topk import NOBODY, RunningTopK
from memfast.runtime.files import EMPTY_SEAL, check_seal, json_text, seal, write_bytes

FORMAT = 2
MANIFEST = "manifest.json"
# Saving takes at most this share of the time between two saves.
SAVE_SHARE = 0.01
FIRST_SAVE_COST = 0.01
_HASH = 32
_HASH_BYTES = 1 << 22
_DAMAGED = (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError)


@dataclass(frozen=True)
class SearchPlan:
    """How a search is cut: the same for all ranks, and for a resumed run whatever its memory.

    Attributes:
        query_rows: queries per group.
        unit_rows: database rows per block.
        parts: ranges of database rows, each searched by one rank; they follow each other from 0 to N.
    """

    query_rows: int
    unit_rows: int
    parts: list[list[int]]

    def check(self, length: int) -> None:
        """Raise unless the parts cover each of ``length`` rows once (-1: an iterator, whose length is not known).

        Raises:
            ValueError: they do not, or a block has no rows.
        """
        numbers = [self.query_rows, self.unit_rows, *(edge for part in self.parts for edge in part)]
        if not all(type(number) is int for number in numbers) or min(numbers[:2]) < 1:
            raise ValueError("its blocks have no whole number of rows")
        edges = [0, *(edge for part in self.parts for edge in part), length]
        joined = all(left == right for left, right in zip(edges[::2], edges[1::2], strict=True))
        if not joined or (length >= 0 and edges != sorted(edges)) or (length < 0 and len(self.parts) != 1):
            raise ValueError(f"its parts {self.parts} do not cover {length} rows once each")


class SearchCheckpoint:
    """The folder of one search.

    Args:
        folder: new, empty, or of the same search.
        parameters: everything that decides the result, as JSON values.
        length: the number of database rows; -1 for an iterator.

    Raises:
        OutputError: the folder holds something else.
        CheckpointError: it belongs to another search (the text names what differs), or is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str], parameters: dict[str, Any], length: int) -> None:
        self.folder, self.parameters, self.length = Path(folder), {"format": FORMAT, **parameters}, length
        self.manifest = self.folder / MANIFEST
        self.stored: SearchPlan | None = None
        if self.manifest.exists():
            self.stored = self._read_manifest()
        elif self.folder.exists() and (
            not self.folder.is_dir() or any(not _is_temporary(one) for one in self.folder.iterdir())
        ):
            raise OutputError(
                f"{self.folder}: expected a new folder or one with a checkpoint, received one that holds other things. "
                "Choose another folder."
            )

    @property
    def search(self) -> str:
        """The name of this search, which each of its files carries: a hash of the parameters and the plan."""
        assert self.stored is not None
        return hashlib.sha256(json.dumps([self.parameters, vars(self.stored)], sort_keys=True).encode()).hexdigest()

    def begin(self, plan: SearchPlan) -> None:
        """Write the plan down where the folder has none yet.

        Raises:
            CheckpointError: the folder's search was cut in another way.
        """
        if self.stored is not None and self.stored != plan:
            raise CheckpointError(
                f"{self.manifest}: this search was cut into {self.stored}, that of the other ranks into {plan}. "
                "Give every rank the folder of one search, or new folders."
            )
        if self.stored is None:
            content = {"seal": EMPTY_SEAL, "parameters": self.parameters, "plan": vars(plan)}
            write_bytes(self.manifest, seal(json_text(content).encode()))
            self.stored = plan

    def result(self, queries: int, k: int) -> tuple[RunningTopK, dict[str, Any]] | None:
        """The finished result and what was noted with it, or None."""
        path = self.folder / "result.safetensors"
        if not path.exists():
            return None
        tensors, notes = _read(path, self.search)
        return _lists(path, tensors, notes, (queries, k)), notes

    def finish(self, lists: RunningTopK, identity: Any) -> None:
        """Write the finished result."""
        _write(self.folder / "result.safetensors", self.search, lists, {"identity": identity})

    def _read_manifest(self) -> SearchPlan:
        try:
            content = self.manifest.read_bytes()
            stored = json.loads(content)
            parameters = dict(stored["parameters"])
            if parameters.get("format") == FORMAT:
                check_seal(content)
        except _DAMAGED as error:
            raise CheckpointError(f"{self.manifest}: not a readable manifest ({error}). Use a new folder.") from error
        _check_same(self.manifest, parameters, self.parameters)
        try:
            plan = SearchPlan(**stored["plan"])
            plan.check(self.length)
        except _DAMAGED as error:
            raise CheckpointError(f"{self.manifest}: not a readable manifest ({error}). Use a new folder.") from error
        return plan


class PartStore:
    """The state of one part of the database: hashes of its units, finished groups, the group in work.

    Args:
        checkpoint: the search's checkpoint, or None to keep nothing.
        number: the part's number.
        first_row: the part's first database row.
        unit_rows: rows per unit.
        rows: the database, to name rows in errors.
        k: neighbours per query.
    """

    def __init__(
        self, checkpoint: SearchCheckpoint | None, number: int, first_row: int, unit_rows: int, rows: RowReader, k: int
    ) -> None:
        self.folder = None if checkpoint is None else checkpoint.folder / f"part-{number:05d}"
        self.search = "" if checkpoint is None else checkpoint.search
        self.rows, self.first_row, self.unit_rows, self.k = rows, first_row, unit_rows, k
        self._hashes: list[bytes] = []
        self._read = False
        self._pending: dict[int, RunningTopK] = {}
        self._saved, self._cost = time.monotonic(), FIRST_SAVE_COST
        self._progress: tuple[int, int, dict[str, np.ndarray], dict[str, Any]] | None = None
        if self.folder is not None and self.folder.is_dir():
            self._restore(self.folder)

    def group(self, number: int, queries: int) -> RunningTopK | None:
        """The finished lists of a group of so many queries, or None."""
        if self.folder is None or not self._group_path(number).exists():
            return None
        tensors, notes = _read(self._group_path(number), self.search)
        if notes.get("group") != number or notes.get("part") != self.folder.name:
            raise _damage(self._group_path(number), "it is the file of another group")
        return _lists(self._group_path(number), tensors, notes, (queries, self.k))

    def progress(self, number: int, queries: int) -> tuple[int, RunningTopK] | None:
        """Units done and lists of a group in work, or None."""
        if self._progress is None or self._progress[0] != number:
            return None
        units, tensors, notes = self._progress[1:]
        return units, _lists(self._progress_path(), tensors, notes, (queries, self.k))

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
        notes = {"part": self.folder.name, "group": group, "units": units}
        _write(self._progress_path(), self.search, lists, notes, self._hashes)
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
            notes = {"part": self._group_path(number).parent.name, "group": number}
            _write(self._group_path(number), self.search, lists, notes, self._hashes)
        if self._pending:
            self._pending.clear()
            self._count(started)

    def _group_path(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"group-{number:05d}.safetensors"

    def _progress_path(self) -> Path:
        assert self.folder is not None
        return self.folder / "progress.safetensors"

    def _restore(self, folder: Path) -> None:
        for path in folder.iterdir():
            if _is_temporary(path):
                path.unlink()
        for path in sorted(folder.glob("*.safetensors")):
            tensors, notes = _read(path, self.search)
            try:
                hashes = [row.tobytes() for row in tensors["unit_hashes"]]
                if path.name == "progress.safetensors":
                    if notes["part"] != folder.name or not 0 <= notes["units"] <= len(hashes):
                        raise ValueError("it is the file of another part")
                    self._progress = (notes["group"], notes["units"], tensors, notes)
            except _DAMAGED as error:
                raise _damage(path, error) from error
            if len(hashes) > len(self._hashes):
                self._hashes = hashes


def _digest(block: np.ndarray) -> bytes:
    """SHA-256 of the SHA-256s of the block's pieces, which all cores compute together."""
    values = np.ascontiguousarray(block).reshape(-1).view(np.uint8)
    pieces = [values[start : start + _HASH_BYTES].data for start in range(0, len(values), _HASH_BYTES)]
    with ThreadPoolExecutor(max_workers=min(len(pieces), os.cpu_count() or 1)) as pool:
        return hashlib.sha256(b"".join(pool.map(lambda piece: hashlib.sha256(piece).digest(), pieces))).digest()


def _write(
    path: Path, search: str, lists: RunningTopK, notes: dict[str, Any], hashes: list[bytes] | None = None
) -> None:
    tensors = {"squared_distances": lists.squared_distances, "indices": lists.indices}
    if hashes is not None:
        # The reader may add to the list meanwhile: take what is there now.
        known = list(hashes)
        tensors["unit_hashes"] = np.frombuffer(b"".join(known), np.uint8).reshape(len(known), _HASH)
    # One entry: safetensors writes several in any order, and equal states are to be equal files.
    text = json.dumps({"seal": EMPTY_SEAL, **notes, "search": search, "fallbacks": lists.fallbacks})
    write_bytes(path, seal(save(tensors, {"notes": text})))


def _read(path: Path, search: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        content = path.read_bytes()
        check_seal(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        notes = json.loads(header["__metadata__"]["notes"])
        if notes["search"] != search:
            raise ValueError("it belongs to another search")
        return load(content), notes
    except _DAMAGED as error:
        raise _damage(path, error) from error


def _lists(path: Path, tensors: dict[str, np.ndarray], notes: dict[str, Any], shape: tuple[int, int]) -> RunningTopK:
    try:
        # Arrays read by safetensors may be views of a read-only buffer.
        distances, indices = tensors["squared_distances"].copy(), tensors["indices"].copy()
        if distances.shape != shape or indices.shape != shape or indices.dtype != np.int64 or indices.min() < NOBODY:
            raise ValueError(f"expected lists {shape}")
        return RunningTopK.of(distances, indices, int(notes["fallbacks"]))
    except _DAMAGED as error:
        raise _damage(path, error) from error


def _damage(path: Path, error: object) -> CheckpointError:
    return CheckpointError(f"{path}: damaged ({error}). Remove the folder {path.parent} to search this part again.")


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
