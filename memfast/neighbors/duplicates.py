"""Duplicates inside one set: equal items, near-copies by distance, look-alikes by cosine of features."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from memfast.foundation.errors import InputError
from memfast.neighbors.inputs import SearchInputs, block_sizes
from memfast.neighbors.precision import Converter
from memfast.neighbors.ranges import pairs_inside, squared_limit
from memfast.neighbors.rows import ChosenRows, RowReader, open_rows
from memfast.neighbors.stream import read_ahead, units

_DIGEST = 16


@dataclass(frozen=True)
class DuplicateGroups:
    """Which items of a set are the same.

    Attributes:
        representative: int64 ``[N]``: the lowest index of each item's group; its own where it is alone.
    """

    representative: np.ndarray

    @property
    def keep(self) -> np.ndarray:
        """bool ``[N]``: True for the one item of each group that stays."""
        return self.representative == np.arange(len(self.representative))

    @property
    def groups(self) -> list[np.ndarray]:
        """The groups of two or more, ascending by their lowest index; each an ascending int64 array."""
        order = np.argsort(self.representative, kind="stable")
        starts = np.flatnonzero(np.diff(self.representative[order], prepend=-1))
        return [group for group in np.split(order, starts[1:]) if len(group) > 1]

    def to_dict(self) -> dict[str, Any]:
        """Counts and groups as plain numbers and lists, ready for JSON."""
        return {
            "items": len(self.representative),
            "distinct": int(self.keep.sum()),
            "groups": [group.tolist() for group in self.groups],
        }


def duplicates(
    source: Any,
    *,
    radius_squared: float | None = None,
    similarity: float | None = None,
    memory: int | None = None,
    progress: bool = False,
    backend: str = "auto",
) -> DuplicateGroups:
    """Groups of items that are equal, near or alike; a chain of near items is one group (single linkage).

    It runs in this process alone, whatever ``torch.distributed`` has started.

    Args:
        source: the set: anything ``knn`` reads by index. For look-alikes give features instead of pixels.
        radius_squared: join items within this squared distance; 0, the default, joins equal items.
        similarity: join items with at least this cosine similarity, -1 to 1, instead.
        memory: as for ``knn``.
        progress: as for ``knn``.
        backend: as for ``knn``.

    Raises:
        InputError: both limits were given, a limit is out of range, or the set cannot be read.

    >>> found = duplicates(np.array([[7], [1], [7], [2]], np.uint8), radius_squared=1)
    >>> found.representative.tolist(), found.keep.tolist(), [group.tolist() for group in found.groups]
    ([0, 1, 0, 1], [True, True, False, False], [[0, 2], [1, 3]])
    """
    metric = "euclidean" if similarity is None else "cosine"
    if radius_squared is None and similarity is None:
        radius_squared = 0
    limit = squared_limit(None, radius_squared, similarity, metric)
    if metric == "euclidean" and limit == 0:
        return exact_duplicates(source, memory=memory)
    rows = open_rows(source, "source")
    # Many copies of one item would make a pair of every two of them: only one of each is compared with the others.
    equal = exact_duplicates(rows, memory=memory).representative
    distinct = np.flatnonzero(equal == np.arange(rows.length))
    some = rows if len(distinct) == rows.length else ChosenRows(rows, distinct)
    pairs = pairs_inside(SearchInputs(some, some, metric), limit, memory=memory, progress=progress, backend=backend)
    joined = join(len(distinct), ((block.queries, block.indices) for block in pairs))
    place = np.zeros(rows.length, np.int64)
    place[distinct] = np.arange(len(distinct))
    return DuplicateGroups(distinct[joined[place[equal]]])


def exact_duplicates(source: Any, *, memory: int | None = None) -> DuplicateGroups:
    """Groups of equal items, found by hash in one pass and verified number by number.

    Items are equal when all their numbers are (0.0 equals -0.0).

    Args:
        source: the set: anything ``knn`` reads by index.
        memory: as for ``knn``.

    Raises:
        InputError: the set is empty or cannot be read, or holds NaN or infinity (the row is named).

    >>> exact_duplicates(np.array([[7], [1], [7]], np.uint8)).representative.tolist()
    [0, 1, 0]
    """
    rows = open_rows(source, "source")
    if not hasattr(rows, "take"):
        raise InputError("source", expected="data that can be read by index", received="an iterator")
    item = rows.dtype.itemsize
    step = block_sizes(
        memory, queries=1, rows=rows.length, width=rows.width, k=1, query_item=item, row_item=2 * item
    ).rows
    digests = _digests(rows, step)
    _, first, group = np.unique(digests, return_index=True, return_inverse=True)
    representative = first[group.reshape(-1)].astype(np.int64)
    return DuplicateGroups(_verified(rows, representative, step))


def _digests(rows: RowReader, step: int) -> np.ndarray:
    """One 16-byte digest per row, as fixed-size bytes."""
    found = np.empty((rows.length, _DIGEST), np.uint8)
    check = Converter(rows, "euclidean")
    start = 0
    for block in read_ahead(units(rows, 0, rows.length, step)):
        check.check_finite(block, start)
        for row, content in enumerate(_canonical(block)):
            found[start + row] = np.frombuffer(hashlib.sha256(content).digest()[:_DIGEST], np.uint8)
        start += len(block)
    return found.view(f"V{_DIGEST}").reshape(-1)


def _canonical(block: np.ndarray) -> np.ndarray:
    """Rows whose bytes are equal exactly where their numbers are: adding 0 turns -0.0 into 0.0."""
    return np.ascontiguousarray(block + block.dtype.type(0) if block.dtype.kind == "f" else block)


def _verified(rows: RowReader, representative: np.ndarray, step: int) -> np.ndarray:
    """Split groups whose digests agree by chance: each round compares what is left with its representative."""
    members = np.flatnonzero(representative != np.arange(len(representative)))
    while len(members):
        different = np.zeros(len(members), bool)
        for start in range(0, len(members), step):
            some = members[start : start + step]
            different[start : start + step] = (rows.take(some) != rows.take(representative[some])).any(axis=1)
        members = members[different]
        for group in np.unique(representative[members]):
            left = members[representative[members] == group]
            representative[left] = left[0]
        members = members[representative[members] != members]
    return representative


def join(count: int, edges: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The lowest index connected to each item: union-find, one block of edges at a time."""
    parent = np.arange(count, dtype=np.int64)
    for left, right in edges:
        roots, ends = np.unique(np.stack([_root(parent, left), _root(parent, right)]), return_inverse=True)
        ends = ends.reshape(2, -1)
        links = coo_array((np.ones(ends.shape[1], bool), (ends[0], ends[1])), shape=(len(roots), len(roots)))
        number, label = connected_components(links, directed=False)
        lowest = np.full(number, count, np.int64)
        np.minimum.at(lowest, label, roots)
        parent[roots] = lowest[label]
    return _root(parent, parent)


def _root(parent: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Follow the links to the roots."""
    while True:
        above = parent[nodes]
        if (above == nodes).all():
            return above
        nodes = above
