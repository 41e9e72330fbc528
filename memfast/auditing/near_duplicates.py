"""Near-duplicates in the training set: items that count as one where neighbours are compared."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np

from memfast.auditing.search import count_different
from memfast.criteria import Criterion, Evidence, Judgement
from memfast.criteria.absolute import DEFAULT_DELTA as CLOSE
from memfast.data import Source
from memfast.foundation.errors import InputError
from memfast.neighbors.duplicates import DuplicateGroups, duplicates


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
        InputError: groups of another set, or all items in one group.
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
        squared = (wanted * unit) ** 2 * int(np.prod(training.item_shape, dtype=np.int64))
        groups = duplicates(training, radius_squared=squared, memory=memory, backend=backend, progress=progress)
    if len(training) > 1 and count_different(training, groups) == 1:
        raise InputError(
            "near_duplicates", expected="at least two groups of training items", received="one that holds all of them",
            do="Join fewer: give a smaller difference.",
        )  # fmt: skip
    return groups


def near_basis(wanted: float | DuplicateGroups | None) -> float | str | None:
    """What tells two choices of near-duplicates apart: the difference, or a hash of the groups."""
    if not isinstance(wanted, DuplicateGroups):
        return wanted
    return blake2b(np.ascontiguousarray(wanted.representative).tobytes()).hexdigest()


def hidden_copies(
    evidence: Evidence, criteria: Sequence[Criterion], judgements: Mapping[str, Judgement], *, joined: bool
) -> list[str]:
    """A note for each criterion that two close training items blind, where samples come so close to two of them.

    Args:
        evidence: of the samples.
        criteria: those that were applied.
        judgements: what they said of the samples, by name.
        joined: whether near-duplicates count as one already.
    """
    notes = []
    for criterion in criteria:
        if not criterion.hidden_by_duplicates or criterion.name not in judgements or evidence.neighbours < 2:
            continue
        count = int(((evidence.rms(1) <= CLOSE) & ~judgements[criterion.name].flags).sum())
        if count:
            samples = "1 sample lies" if count == 1 else f"{count:,} samples lie"
            do = "join more of them" if joined else "let them count as one"
            notes.append(
                f"{samples} within a root mean square difference of {CLOSE:g} of two training items or more, which the "
                f"{criterion.title.lower()} does not call a copy. If such items are near-duplicates, {do} "
                "(near_duplicates, --near-duplicates)."
            )
    return notes
