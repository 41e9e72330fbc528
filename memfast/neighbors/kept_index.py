"""The kept index: a training set opened once, kept beside the data, searched below the cost of brute force.

``index`` builds it shard by shard (a rerun after a kill goes on where it was), ``open_index`` opens it, and a
``KeptIndex`` stands wherever a training set does: it is a source of memfast.data.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from memfast.data import kept, open_source
from memfast.data.source import Source
from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import CheckpointError, InputError, OutputError
from memfast.foundation.progress import Progress
from memfast.foundation.values import file_hash
from memfast.neighbors.duplicates import DuplicateGroups, exact_duplicates, join
from memfast.neighbors.inputs import SearchInputs
from memfast.neighbors.precision import Converter
from memfast.neighbors.pruned import SKETCH, SLACK, TRANSFORM, PrunedSearch, Work, checked_rows
from memfast.neighbors.result import Neighbors
from memfast.neighbors.rows import open_rows
from memfast.neighbors.sketch import SAMPLE_ITEMS, Transform, components_for
from memfast.runtime.files import atomic_folder, write_bytes

SHARD_BYTES = 256 << 20
MOST_FILES_LISTED = 20_000
_BLOCK_BYTES = 16 << 20
_LOCK = kept.WRITER_LOCK


def index(
    data: Any,
    *,
    out: str | os.PathLike[str],
    rows: bool = True,
    components: int | None = None,
    shard_items: int | None = None,
    mode: str = "auto",
    image_size: int | None = None,
    skip_bad: bool = False,
    progress: bool = False,
) -> "KeptIndex":
    """Build the index of a training set in a folder, or finish the one that a killed run began there.

    Args:
        data: anything `memfast.data.open_source` reads.
        out: the index's folder: new, empty, or the one of an unfinished or finished index of the same data.
        rows: keep the items themselves. False keeps sketches and positions only: survivors are then read from the
            source, which must be a path and stay as it is.
        components: numbers per sketch; by default about a twelfth of those per item, at most 191. 0 makes no sketch.
        shard_items: items per shard; by default 256 MiB of them.
        mode: as for ``open_source``.
        image_size: as for ``open_source``.
        skip_bad: as for ``open_source``.
        progress: show progress on stderr.

    Returns:
        The opened index.

    Raises:
        InputError: the data cannot be read or holds NaN or infinity; with ``rows=False``, it is no path.
        OutputError: the folder holds other things, another index, or cannot be written; another process writes to it.

    >>> import tempfile
    >>> images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = index(images, out=folder + "/train.index").search(images[:2], k=1)
    >>> found.indices.tolist()
    [[0], [1]]
    """
    folder = Path(out)
    if components is not None:
        whole_number("components", components, least=0, greatest=4096)
    if shard_items is not None:
        whole_number("shard_items", shard_items, least=1)
    source = open_source(data, mode=mode, image_size=image_size, skip_bad=skip_bad, progress=progress)
    reading = {"mode": mode, "image_size": image_size, "skip_bad": skip_bad}
    notes = _source_notes(data, source, reading)
    if not rows and notes["path"] is None:
        raise InputError("rows", expected="True for data in memory, which nothing can read again", received="False")
    manifest = folder / kept.MANIFEST
    if not manifest.exists() and folder.exists() and (not folder.is_dir() or any(_visible(folder))):
        raise OutputError(
            f"{folder}: expected a new or empty folder for the index, received one that holds other things. "
            "Choose another folder."
        )
    with _writing(folder):
        if not manifest.exists():
            _begin(folder, source, notes, rows=rows, components=components, shard_items=shard_items)
        stored = kept.read_manifest(folder)
        wanted = {"rows": rows, "item_shape": list(source.item_shape), "dtype": source.dtype.str}
        wanted |= {} if components is None else {"components": components}
        wanted |= {} if shard_items is None else {"shard_items": shard_items}
        first = stored["sources"][0]
        if any(stored[name] != value for name, value in wanted.items()) or not _same_source(first, notes):
            raise OutputError(
                f"{folder}: expected a new folder, or an index of the same data and options, received another index. "
                "Choose another folder; to append data, use KeptIndex.add (memfast index DATA --out INDEX --add)."
            )
        _write_shards(folder, source, 0, progress)
    return KeptIndex(folder)


def open_index(folder: str | os.PathLike[str], *, skip_bad: bool = False) -> "KeptIndex":
    """Open an index; nothing but its manifest is read.

    Args:
        folder: what ``memfast.index`` wrote.
        skip_bad: leave out shards whose files are damaged, and list them in ``.skipped``. It rehashes all.

    Raises:
        InputError: the folder is no index.
        CheckpointError: it is damaged, unfinished, or of another schema.
    """
    return KeptIndex(folder, skip_bad=skip_bad)


def verify_index(folder: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """Read and hash every file of an index again; its rows need not be usable.

    Returns:
        (name, what is wrong) of each shard, transform and source that is not as it was; empty where all is well.

    Raises:
        InputError: the folder is no index.
        CheckpointError: its manifest is damaged.
    """
    folder = Path(folder)
    stored, found = kept.read_manifest(folder), []
    if stored["sketch"] is not None and _safe_hash(folder / TRANSFORM) != stored["sketch"]["sha256"]:
        found.append((TRANSFORM, "its content changed, or it is missing"))
    for shard in stored["shards"]:
        damage = kept.shard_damage(folder, shard)
        if damage is not None:
            found.append((shard["name"], damage))
    for source in stored["sources"]:
        if not source["complete"]:
            found.append((source["name"], "not all of its items are in the index: run the command again"))
        if source["path"] is not None:
            try:
                kept.check_source(source)
            except InputError as error:
                found.append((source["name"], str(error)))
    return found


class KeptIndex(kept.StoredItems):
    """An opened index: a source of its items, and exact searches among them.

    Attributes:
        work: what its searches had to measure so far.
    """

    def __init__(self, folder: str | os.PathLike[str], *, skip_bad: bool = False) -> None:
        super().__init__(folder, skip_bad=skip_bad, reopen=open_source)
        unfinished = [one["name"] for one in self.manifest["sources"] if not one["complete"]]
        if unfinished:
            raise CheckpointError(
                f"{folder}: the index of {unfinished[0]} is not finished. Run the command that began it again."
            )

    def __repr__(self) -> str:
        return f"KeptIndex('{self.folder}', {len(self)} items of {list(self.item_shape)} {self.dtype})"

    @cached_property
    def _pruned(self) -> PrunedSearch:
        return PrunedSearch(self)

    @property
    def work(self) -> Work:
        """How many pairs the searches decided, and how many of them they measured."""
        return self._pruned.work

    def search(self, images: Any, k: int, *, exclude_self: bool = False, progress: bool = False) -> Neighbors:
        """The k nearest items of every image, exact; the same numbers as ``memfast.knn`` with this data.

        Args:
            images: as the queries of ``memfast.knn``: items of the shape and kind of the index; one item counts as a
                set of one.
            k: neighbours per image, 1 to the number of items.
            exclude_self: the images are the index's items; item i is left out for image i.
            progress: show progress on stderr.

        Returns:
            Neighbors; it unpacks as ``D, I``.

        Raises:
            InputError: items of another size, NaN or infinity, k > N.
        """
        images = _as_set(images, self.item_shape)
        inputs = SearchInputs.open(images, self, "euclidean")
        inputs.check_k(k, exclude_self)
        lists = self._pruned.nearest(inputs.queries, int(k), exclude_self=exclude_self, progress=progress)
        exactness = "exact" if inputs.integers else "certified"
        return Neighbors(lists.squared_distances, lists.indices, exactness)

    def duplicates(self) -> DuplicateGroups:
        """Groups of equal items."""
        return exact_duplicates(self)

    def near_duplicates(self, radius: float, *, progress: bool = False) -> DuplicateGroups:
        """Groups of items within a root-mean-square distance of each other, chains joined (single linkage).

        Args:
            radius: root-mean-square difference per number; for uint8 images in units of [0, 1], as criteria have it.
            progress: show progress on stderr.

        Raises:
            InputError: the radius is negative or not finite.
        """
        radius = finite_number("radius", radius, least=0)
        numbers = int(np.prod(self.item_shape, dtype=np.int64))
        scale = 255.0 if self.dtype == np.uint8 else 1.0
        limit = (radius * scale) ** 2 * numbers
        equal = self.duplicates().representative
        return DuplicateGroups(join(len(self), self._near_pairs(limit, equal, progress)))

    def _near_pairs(self, limit: float, equal: np.ndarray, progress: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of near items, equal ones first: of each group of equal items only the first is compared."""
        everyone = np.arange(len(self))
        yield equal, everyone
        distinct = everyone[equal == everyone]
        integers = self.dtype == np.uint8
        limit = float(np.floor(limit)) if integers else limit
        convert = Converter(open_rows(self, "index"), "euclidean", check=False)
        step = max(1, min(1024, _BLOCK_BYTES // max(1, convert.rows.width * 8)))
        with Progress("comparing", len(distinct), "items", show=progress) as bar:
            for start in range(0, len(distinct), step):
                chosen = distinct[start : start + step]
                queries = convert(self.take(chosen).reshape(len(chosen), -1), 0)
                for query, item, _ in self._pruned.within(queries, limit, from_item=int(chosen[0])):
                    yield chosen[query], item
                bar.advance(len(chosen))

    def add(
        self,
        data: Any,
        *,
        mode: str | None = None,
        image_size: int | None = None,
        skip_bad: bool = False,
        progress: bool = False,
    ) -> "KeptIndex":
        """Append more items; returns the index opened again. A rerun after a kill goes on.

        Data that the index holds already (the same unchanged path, or equal items) is not added twice.

        Args:
            data: items of the same shape and kind.
            mode: as for ``memfast.index``; by default as the index was read.
            image_size: likewise.
            skip_bad: as for ``memfast.index``.
            progress: show progress on stderr.

        Raises:
            InputError: items of another shape, kind or preprocessing.
            OutputError: another process writes to the index, or it cannot be written.
        """
        first = self.manifest["sources"][0]["reading"]
        reading: dict[str, Any] = {
            "mode": first["mode"] if mode is None else mode,
            "image_size": first["image_size"] if image_size is None else image_size,
        }
        if any(reading[name] != first[name] for name in reading):
            raise InputError(
                "data", expected=f"the preprocessing of the index, {first}", received=str(reading),
                do="Read it in the same way, or build another index.",
            )  # fmt: skip
        source = open_source(data, **reading, skip_bad=skip_bad, progress=progress)
        _append(self.folder, source, _source_notes(data, source, {**reading, "skip_bad": skip_bad}), progress)
        return KeptIndex(self.folder)

    def verify(self) -> list[tuple[str, str]]:
        """What ``verify_index`` finds in this index."""
        return verify_index(self.folder)

    def describe(self) -> dict[str, Any]:
        """What is inside, as plain values: for ``memfast info INDEX``."""
        stored = self.manifest
        size = sum(sum(shard["sizes"].values()) for shard in stored["shards"])
        return {
            "folder": str(self.folder),
            "schema": stored["schema"],
            "memfast": stored["memfast"],
            "items": len(self),
            "item_shape": list(self.item_shape),
            "dtype": self.dtype.name,
            "rows": stored["rows"],
            "labels": stored["labels"],
            "components": 0 if stored["sketch"] is None else stored["components"],
            "shards": len(stored["shards"]),
            "bytes": size,
            "content": self.content_hash(),
            "sources": [
                {"name": one["name"], "items": one["items"], "reading": one["reading"]} for one in stored["sources"]
            ],
        }


def _begin(
    folder: Path, source: Source, notes: dict[str, Any], *, rows: bool, components: int | None, shard_items: int | None
) -> None:
    """Fit the transform and write the manifest of an index without shards."""
    from memfast import __version__

    numbers = int(np.prod(source.item_shape, dtype=np.int64))
    wanted = components_for(numbers) if components is None else min(components, numbers)
    sketch = None
    if wanted:
        sample = np.unique(np.linspace(0, len(source) - 1, SAMPLE_ITEMS).astype(np.int64))
        taken = source.take(sample).reshape(len(sample), -1)
        if taken.dtype.kind == "f":
            taken = np.where(np.isfinite(taken), taken, 0)  # a shard's own check names the item
        write_bytes(folder / TRANSFORM, save(Transform.fit(taken, wanted).to_arrays()))
        sketch = {"sha256": file_hash(folder / TRANSFORM)}
    default = max(1, SHARD_BYTES // max(1, numbers * source.dtype.itemsize))
    kept.write_manifest(
        folder,
        {
            "memfast": __version__,
            "dtype": source.dtype.str,
            "item_shape": list(source.item_shape),
            "rows": rows,
            "components": wanted if components is None else components,
            "shard_items": default if shard_items is None else shard_items,
            "sketch": sketch,
            "labels": source.labels is not None,
            "class_names": _class_names(source),
            "conversion": getattr(source, "conversion", None),
            "skipped": [list(one) for one in source.skipped],
            "sources": [notes],
            "shards": [],
        },
    )


def _append(folder: Path, source: Source, notes: dict[str, Any], progress: bool) -> None:
    with _writing(folder):
        stored = kept.read_manifest(folder)
        kind = [source.dtype.str, list(source.item_shape), source.labels is not None, _class_names(source)]
        wanted = [stored["dtype"], stored["item_shape"], stored["labels"], stored["class_names"]]
        if kind != wanted:
            raise InputError(
                "data", expected="dtype, item shape, labels and classes of the index: " + repr(wanted),
                received=repr(kind), do="Bring the data to the same form, or build another index.",
            )  # fmt: skip
        if not stored["rows"] and notes["path"] is None:
            raise InputError("data", expected="a path, as the index keeps no rows", received="data in memory")
        number = next((i for i, one in enumerate(stored["sources"]) if _same_source(one, notes)), None)
        if number is None:
            number = len(stored["sources"])
            stored["sources"].append(notes)
            stored["skipped"] += [list(one) for one in source.skipped]
            _rewrite(folder, stored)
        _write_shards(folder, source, number, progress)


def _write_shards(folder: Path, source: Source, number: int, progress: bool) -> None:
    """Write the shards of a source that are not there yet, each whole or not at all, and note that it is complete."""
    stored = kept.read_manifest(folder)
    notes = stored["sources"][number]
    if notes["complete"]:
        return
    transform = None
    if stored["sketch"] is not None:
        transform = PrunedSearch(_Building(folder, stored)).transform
    done = sum(shard["items"] for shard in stored["shards"] if shard["source"] == number)
    with Progress("indexing", len(source), "items", show=progress) as bar:
        bar.advance(done)
        for first in range(done, len(source), stored["shard_items"]):
            last = min(first + stored["shard_items"], len(source))
            shard = _write_shard(folder, stored, source, number, first, last, transform)
            stored["shards"].append(shard)
            _rewrite(folder, stored)
            bar.advance(last - first)
    if notes["path"] is not None and _listed(Path(notes["path"].partition("::")[0])) != notes["files"]:
        raise InputError(
            notes["name"], expected="data that stays as it is while it is indexed", received="files that changed",
            do="Build the index again in a new folder.",
        )  # fmt: skip
    notes["complete"] = True
    _rewrite(folder, stored)


def _write_shard(
    folder: Path, stored: dict[str, Any], source: Source, number: int, first: int, last: int,
    transform: Transform | None,
) -> dict[str, Any]:  # fmt: skip
    """Write one shard and return its entry in the manifest."""
    name = f"shard-{len(stored['shards']):05d}"
    width = int(np.prod(source.item_shape, dtype=np.int64))
    count = last - first
    content = hashlib.sha256()
    rows = open_rows(source, source.name)
    convert = Converter(rows, "euclidean")
    step = max(1, _BLOCK_BYTES // max(1, width * 8))
    with atomic_folder(folder / name) as temporary:
        with (
            _npy(temporary / kept.ROWS if stored["rows"] else None, source.dtype, (count, width)) as write_rows,
            _npy(temporary / SKETCH if transform else None, np.dtype(np.uint8), (count, _width(transform))) as sketches,
        ):
            slack = np.empty(count, np.float32)
            for start in range(first, last, step):
                stop = min(start + step, last)
                block = np.ascontiguousarray(rows.read(start, stop))
                converted = checked_rows(convert(block, start), rows.locate, start)
                content.update(block.data)
                write_rows(block)
                if transform is not None:
                    sketch = transform.sketch(converted)
                    sketches(sketch.bytes)
                    slack[start - first : stop - first] = sketch.slack
        if transform is not None:
            np.save(temporary / SLACK, slack, allow_pickle=False)
        names = [source.item_name(item) for item in range(first, last)]
        labels = None if source.labels is None else source.labels[first:last]
        kept.write_items(temporary, names, labels, number, first)
        files = {one.name: file_hash(one) for one in sorted(temporary.iterdir())}
        sizes = {one.name: one.stat().st_size for one in sorted(temporary.iterdir())}
    return {
        "name": name, "items": count, "source": number, "first": first, "content": content.hexdigest(),
        "files": files, "sizes": sizes,
    }  # fmt: skip


@contextmanager
def _npy(path: Path | None, dtype: np.dtype, shape: tuple[int, int]) -> Iterator[Any]:
    """Write an npy file block by block with plain writes: a full disk is an error, not a crash. None writes nothing."""
    if path is None:
        yield lambda block: None
        return
    with open(path, "wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        yield lambda block: file.write(np.ascontiguousarray(block).data)


class _Building(kept.StoredItems):
    """An index without shards yet, for its transform."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder, self.manifest = folder, manifest


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Be the only process that writes to an index.

    Raises:
        OutputError: another process does.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}.") from error
    try:
        with suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise OutputError(
                    f"{folder}: another process is writing to this index. Wait until it has ended."
                ) from error
        yield
    finally:
        os.close(handle)


def _source_notes(data: Any, source: Source, reading: dict[str, Any]) -> dict[str, Any]:
    """What the manifest says of a source: where it is, what its files looked like, how it was read."""
    path = files = content = None
    if isinstance(data, str | os.PathLike):
        text = str(data)
        location = Path(text.partition("::")[0]).expanduser().resolve()
        path = str(location) + ("::" + text.partition("::")[2] if "::" in text else "")
        files = _listed(location)
    else:
        content = source.content_hash()
    return {
        "name": source.name, "path": path, "files": files, "content": content, "reading": reading,
        "items": len(source), "complete": False,
    }  # fmt: skip


def _listed(location: Path) -> Any:
    files = kept.source_files(location)
    return files if len(files) <= MOST_FILES_LISTED else kept.files_hash(files)


def _same_source(stored: dict[str, Any], notes: dict[str, Any]) -> bool:
    return all(stored[name] == notes[name] for name in ("path", "files", "content", "reading", "items"))


def _class_names(source: Source) -> list[str] | None:
    names = getattr(source, "class_names", None)
    return None if names is None else [str(name) for name in names]


def _rewrite(folder: Path, stored: dict[str, Any]) -> None:
    kept.write_manifest(folder, {name: value for name, value in stored.items() if name not in ("seal", "schema")})


def _visible(folder: Path) -> Iterator[Path]:
    """What stands in a folder, but for what a killed build leaves before its manifest is written."""
    for one in folder.iterdir():
        if one.name not in (_LOCK, TRANSFORM) and not one.name.endswith(".part"):
            yield one


def _width(transform: Transform | None) -> int:
    return 0 if transform is None else len(transform.components) + 1


def _as_set(images: Any, item_shape: tuple[int, ...]) -> Any:
    """One item as a set of one."""
    shape = getattr(images, "shape", None)
    return images[None] if shape is not None and tuple(shape) == item_shape else images


def _safe_hash(path: Path) -> str | None:
    try:
        return file_hash(path)
    except OSError:
        return None
