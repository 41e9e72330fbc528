"""Near-duplicates in the training set: items that count as one where neighbours are compared."""

from collections.abc import Callable, Sized
from hashlib import blake2b

import numpy as np

from memfast.criteria import Evidence, Judgement
from memfast.criteria.absolute import DEFAULT_DELTA as CLOSE
from memfast.data import Source
from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.neighbors.duplicates import DuplicateGroups, duplicates

# Neighbours that are looked at beyond the wanted ones before a search is made wider, and how many a wide one holds.
SPARE, WIDE = 16, 1 << 21
# (rows, width) -> the ``width`` nearest of some samples, of all for None: distances or similarities, and indices.
Search = Callable[[np.ndarray | None, int], tuple[np.ndarray, np.ndarray]]


def near_groups(
    wanted: float | DuplicateGroups | None,
    training: Source,
    kept: np.ndarray,
    whole: int,
    *,
    unit: float,
    memory: int | None = None,
    backend: str = "auto",
    progress: bool = False,
) -> DuplicateGroups | None:
    """The groups of these items; None where no near-duplicates are to be joined.

    Args:
        wanted: a root mean square difference in [0, 1] units up to which items are joined, or groups of the whole set.
        training: the training set without exact duplicates.
        kept: which items of the whole set those are.
        whole: how many items the whole set has.
        unit: raw units in one [0, 1] unit.
        memory: as for ``memfast.neighbors.duplicates``.
        backend: as there.
        progress: as there.

    Raises:
        InputError: a number that is not above 0, groups of another set, or all items in one group.
    """
    if wanted is None:
        return None
    if isinstance(wanted, DuplicateGroups):
        if len(wanted.representative) != whole:
            raise InputError(
                "near_duplicates", expected=f"groups of the whole training set, {whole} items",
                received=f"groups of {len(wanted.representative)}", do="Canaries that were added count too.",
            )  # fmt: skip
        _, first, group = np.unique(wanted.representative[kept], return_index=True, return_inverse=True)
        groups = DuplicateGroups(first[group.reshape(-1)].astype(np.int64))
    else:
        rms = finite_number("near_duplicates", wanted, above=0, do="Or give memfast.neighbors.duplicates(...).")
        squared = (rms * unit) ** 2 * int(np.prod(training.item_shape, dtype=np.int64))
        groups = duplicates(training, radius_squared=squared, memory=memory, backend=backend, progress=progress)
    if len(training) > 1 and count_different(training, groups) == 1:
        raise InputError(
            "near_duplicates", expected="at least two groups of training items", received="one that holds all of them",
            do="Join fewer: give a smaller difference.",
        )  # fmt: skip
    return groups


def count_different(items: Sized, groups: DuplicateGroups | None) -> int:
    """How many items there are, near-duplicates counted once."""
    return len(items) if groups is None else int(groups.keep.sum())


def near_basis(wanted: float | DuplicateGroups | None) -> float | str | None:
    """What tells two choices of near-duplicates apart: the difference, or a hash of the groups."""
    if not isinstance(wanted, DuplicateGroups):
        return wanted
    return blake2b(np.ascontiguousarray(wanted.representative).tobytes()).hexdigest()


def hidden_copies(evidence: Evidence, ratio: Judgement | None, *, joined: bool) -> list[str]:
    """A note where samples come so close to two training items that the nearest-neighbour ratio sees no copy.

    Args:
        evidence: of the samples.
        ratio: what the nearest-neighbour ratio said of them, or None.
        joined: whether near-duplicates count as one already.
    """
    count = 0 if ratio is None else int(((evidence.rms(1) <= CLOSE) & ~ratio.flags).sum())
    if not count:
        return []
    samples = "1 sample lies" if count == 1 else f"{count:,} samples lie"
    do = "join more of them" if joined else "let them count as one"
    return [
        f"{samples} within a root mean square difference of {CLOSE:g} of two training items or more, which the "
        f"nearest-neighbour ratio does not call a copy. If such items are near-duplicates, {do} (near_duplicates, "
        "--near-duplicates)."
    ]


def nearest_others(
    search: Search, items: int, groups: DuplicateGroups | None, exclude: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest items of each sample that count: distances (or similarities) and indices ``[n, k]``.

    With groups, of each group the member nearest to the sample. Samples whose neighbours lie in too few groups are
    searched again for twice as many, a bounded number at a time; all items hold enough.

    Args:
        search: see ``Search``.
        items: how many items there are.
        groups: the items' groups, or None where every item counts.
        exclude: ``[n, e]`` items that are left out of each row, with their groups.
        k: at most the number of items that count, less ``e``.
    """
    wanted = k + exclude.shape[1]
    if groups is None or wanted == 1:
        found, indices = search(None, wanted)
        return drop(found, indices, exclude, k) if exclude.shape[1] else (found, indices)
    group = groups.representative
    width = min(items, wanted + SPARE)
    found, indices, enough = one_per_group(*search(None, width), group, exclude, k)
    while len(rows := np.flatnonzero(~enough)):
        width = min(items, 2 * width)
        for some in np.split(rows, range(max(1, WIDE // width), len(rows), max(1, WIDE // width))):
            found[some], indices[some], enough[some] = one_per_group(*search(some, width), group, exclude[some], k)
    return found, indices


def one_per_group(
    squared: np.ndarray, indices: np.ndarray, groups: np.ndarray, exclude: np.ndarray, keep: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of lists of neighbours, the nearest member of each group, and the first ``keep`` of these.

    Args:
        squared: ``[n, k]``, ascending.
        indices: ``[n, k]``.
        groups: int64, the group of every item.
        exclude: ``[n, e]`` items whose groups are left out of each row.
        keep: how many columns stay.

    Returns:
        Squared distances and indices ``[n, keep]``, and bool ``[n]``: where a row has so many groups. Other rows hold
        anything.

    >>> groups = np.array([0, 0, 1, 2])
    >>> one_per_group(np.array([[1, 2, 3, 9]]), np.array([[1, 0, 3, 2]]), groups, np.empty((1, 0), int), 2)
    (array([[1, 3]]), array([[1, 3]]), array([ True]))
    """
    of = groups[indices]
    order = np.argsort(of, axis=1, kind="stable")
    ordered = np.take_along_axis(of, order, axis=1)
    first = np.empty(of.shape, bool)
    np.put_along_axis(first, order, np.diff(ordered, axis=1, prepend=-1) != 0, axis=1)
    first &= (of[:, :, None] != groups[exclude][:, None, :]).all(axis=2)
    chosen = np.argsort(~first, axis=1, kind="stable")[:, :keep]
    return (
        np.take_along_axis(squared, chosen, axis=1),
        np.take_along_axis(indices, chosen, axis=1),
        first.sum(axis=1) >= keep,
    )


def drop(squared: np.ndarray, indices: np.ndarray, exclude: np.ndarray, keep: int) -> tuple[np.ndarray, np.ndarray]:
    """Leave some items out of lists of neighbours and keep the first ``keep`` of the rest.

    Args:
        squared: ``[n, k]``.
        indices: ``[n, k]``.
        exclude: ``[n, e]`` items to leave out of each row.
        keep: how many columns stay, at most ``k - e``.

    >>> drop(np.array([[0, 4, 9]]), np.array([[7, 2, 5]]), np.array([[7]]), 2)
    (array([[4, 9]]), array([[2, 5]]))
    """
    stays = (indices[:, :, None] != exclude[:, None, :]).all(axis=2)
    order = np.argsort(~stays, axis=1, kind="stable")[:, :keep]
    return np.take_along_axis(squared, order, axis=1), np.take_along_axis(indices, order, axis=1)
