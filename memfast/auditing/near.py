"""Near-duplicates in the training set: items that count as one where neighbours are compared."""

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import numpy as np

from memfast.criteria import Evidence, Judgement
from memfast.criteria.absolute import DEFAULT_DELTA as CLOSE
from memfast.data import Source
from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.neighbors.duplicates import DuplicateGroups, duplicates

LISTED_GROUPS, LISTED_MEMBERS = 100, 100
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
) -> np.ndarray | None:
    """The number of every item's group, int64 ``[len(kept)]``; None where no near-duplicates are to be joined.

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
        grouped = wanted.representative
        if len(grouped) != whole:
            raise InputError(
                "near_duplicates", expected=f"groups of the whole training set, {whole} items",
                received=f"groups of {len(grouped)}", do="Canaries that were added count too.",
            )  # fmt: skip
        grouped = grouped[kept]
    else:
        rms = finite_number("near_duplicates", wanted, above=0, do="Or give memfast.neighbors.duplicates(...).")
        squared = (rms * unit) ** 2 * int(np.prod(training.item_shape, dtype=np.int64))
        grouped = duplicates(
            training, radius_squared=squared, memory=memory, backend=backend, progress=progress
        ).representative
    groups: np.ndarray = np.unique(grouped, return_inverse=True)[1].reshape(-1).astype(np.int64)
    if len(groups) > 1 and groups.max() == 0:
        raise InputError(
            "near_duplicates", expected="at least two groups of training items", received="one that holds all of them",
            do="Join fewer: give a smaller difference.",
        )  # fmt: skip
    return groups


def count_of(groups: np.ndarray) -> int:
    """How many groups there are."""
    return int(groups.max()) + 1


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


def describe_groups(groups: np.ndarray, training: Source) -> dict[str, Any]:
    """How many groups of two or more there are, the items in them, and names in the first groups."""
    sizes = np.bincount(groups)
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.cumsum(sizes)[:-1])
    several = [group for group in members if len(group) > 1]
    return {
        "groups": len(several),
        "items": int(sizes[sizes > 1].sum()),
        "largest": int(sizes.max()),
        "listed": [
            [training.item_name(int(index)) for index in group[:LISTED_MEMBERS]] for group in several[:LISTED_GROUPS]
        ],
    }


def nearest_groups(search: Search, groups: np.ndarray, exclude: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest groups of each sample, each by the member nearest to it: distances and indices ``[n, k]``.

    Samples whose neighbours lie in too few groups are searched again for twice as many, a bounded number at a time; all
    items hold enough.

    Args:
        search: see ``Search``.
        groups: int64, the group of every item.
        exclude: ``[n, e]`` items whose groups are left out of each row.
        k: at most the number of groups, less ``e``.
    """
    width = min(len(groups), k + exclude.shape[1] + SPARE)
    found, indices, enough = one_per_group(*search(None, width), groups, exclude, k)
    while len(rows := np.flatnonzero(~enough)):
        width = min(len(groups), 2 * width)
        for some in np.split(rows, range(max(1, WIDE // width), len(rows), max(1, WIDE // width))):
            found[some], indices[some], enough[some] = one_per_group(*search(some, width), groups, exclude[some], k)
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
