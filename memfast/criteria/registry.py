"""The criteria by name, and how a user's choice becomes a list of them. To add one: write its class and add it here."""

from collections.abc import Iterable

from memfast.criteria.absolute import Absolute, AbsoluteTiles
from memfast.criteria.authenticity import Authenticity
from memfast.criteria.base import Criterion
from memfast.criteria.calibrated import Calibrated
from memfast.criteria.nn_ratio import NnRatio
from memfast.criteria.similarity import Similarity
from memfast.foundation.errors import InputError
from memfast.foundation.registry import Registry

CRITERIA: Registry[type[Criterion]] = Registry(
    "criteria",
    (NnRatio, Calibrated, Absolute, AbsoluteTiles, Similarity, Authenticity),
    group="memfast.criteria",
    base=Criterion,
)


def choose(wanted: str | Criterion | Iterable[str | Criterion] | None = None) -> list[Criterion]:
    """The criteria of these names, or all of them.

    Args:
        wanted: None or "all" for all; a name, a criterion, or several. Names are those of `CRITERIA` or an alias:
            ``nndr`` (nearest-neighbour distance ratio) is ``nn_ratio``, ``dcr`` (distance to the closest record) is
            ``absolute``, ``authpct`` is ``authenticity``.

    >>> [criterion.name for criterion in choose(["NNDR", "dcr"])]
    ['nn_ratio', 'absolute']
    """
    if wanted is None or (isinstance(wanted, str) and wanted == "all"):
        return [CRITERIA.build(name) for name in CRITERIA]
    if isinstance(wanted, str | Criterion):
        wanted = [wanted]
    chosen: dict[str, Criterion] = {}
    for one in wanted:
        criterion = one if isinstance(one, Criterion) else criterion_named(one)
        if criterion.name in chosen:
            raise InputError("criteria", expected="each criterion once", received=f"'{criterion.name}' twice")
        chosen[criterion.name] = criterion
    if not chosen:
        raise InputError("criteria", expected="at least one criterion", received="none")
    return list(chosen.values())


def criterion_named(name: str, threshold: float | None = None, *, what: str = "criteria") -> Criterion:
    """The criterion of this name or alias, at a threshold of its own or at its default one.

    Args:
        name: the name or alias.
        threshold: None: the default one.
        what: what an error calls the argument that gave the name.

    Raises:
        InputError: an unknown name, or a threshold that the criterion cannot have.

    >>> criterion_named("nndr", 0.5).threshold
    0.5
    """
    if threshold is None:
        return CRITERIA.build(name, what=what)
    return CRITERIA.find(name, what=what)(threshold)  # type: ignore[call-arg]
