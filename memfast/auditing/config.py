"""The options of an audit: each once, with its default and its check; signature, flags and result follow from here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.foundation.proportions import DEFAULT_CONFIDENCE, DEFAULT_RESAMPLES, Proportion
from memfast.runtime.memory import bytes_allowed

if TYPE_CHECKING:
    from memfast.criteria import Criterion

SETS = ("generated", "training", "test")
# What each option does, in the words of the command's help.
WORDS = {
    "k": "Nearest training items to know per sample.",
    "criteria": "Names, comma-separated; default: all that apply.",
    "require": "Criteria that must apply, or the audit fails before the search.",
    "features": "For similarity and metrics: pixels, given, a file or a name on disk.",
    "extraction": "Options of the extraction of features.",
    "value_range": "The values that mean 0 and 1: LOW,HIGH for all sets, or SET=LOW,HIGH.",
    "controls": "Run the negative and the positive control.",
    "planted": "Training items that the positive control copies in each way.",
    "confidence": "Confidence of all intervals.",
    "resamples": "Resamples of the bootstrap.",
    "seed": "The seed of everything random.",
    "backend": "auto, reference, cpu, triton or cuda.",
    "memory": "GiB the search may use; default: a quarter of what is free.",
    "approximate": "A faiss index_factory string, exact re-ranking.",
    "near_duplicates": "Training items up to this RMS difference (0 to 1) count as one.",
    "pictures": "At most how many pairs keep their pictures.",
    "skip_bad": "Leave unreadable images out, and count them.",
    "strict": "Fail (exit code 1) where a set has entries that cannot be read as items.",
}
_RANGE = "(low, high) with low < high"


@dataclass(frozen=True)
class Statistics:
    """How uncertainty is computed: confidence of the intervals, bootstrap resamples, seed."""

    confidence: float
    resamples: int
    seed: int

    def share(self, flags: np.ndarray) -> Proportion:
        """The share of flags that are set, with its intervals."""
        return Proportion.of(
            int(flags.sum()), len(flags), confidence=self.confidence, resamples=self.resamples, seed=self.seed
        )


@dataclass(frozen=True)
class AuditConfig:
    """The options of `memfast.audit`, checked; its docstring says what each means.

    ``AuditConfig.words(name)`` says it in short: the command's help.

    Raises:
        InputError: an option has a value that cannot be used.

    >>> AuditConfig(criteria="nndr").chosen[0].name
    'nn_ratio'
    """

    k: int = 50
    criteria: Any = None
    require: Any = ()
    features: Any = None
    extraction: Mapping[str, Any] | None = None
    value_range: Any = None
    controls: bool = True
    planted: int = 64
    confidence: float = DEFAULT_CONFIDENCE
    resamples: int = DEFAULT_RESAMPLES
    seed: int = 0
    backend: str = "auto"
    memory: int | None = None
    approximate: Any = None
    near_duplicates: Any = None
    pictures: int = 2000
    skip_bad: bool = False
    strict: bool = False

    chosen: tuple["Criterion", ...] = field(init=False)
    required: tuple[str, ...] = field(init=False)
    ranges: Mapping[str, tuple[float, float]] = field(init=False)

    def __post_init__(self) -> None:
        from memfast.criteria import choose

        checked: dict[str, Any] = {
            "chosen": tuple(choose(self.criteria)),
            "seed": whole_number("seed", self.seed, least=0, greatest=2**63 - 1),
            "resamples": whole_number("resamples", self.resamples, least=1),
            "confidence": finite_number("confidence", self.confidence, above=0, below=1),
            "planted": whole_number("planted", self.planted, least=1),
            "pictures": whole_number("pictures", self.pictures, least=0),
            "k": whole_number("k", self.k, least=1),
            "memory": None if self.memory is None else bytes_allowed(self.memory),
            "near_duplicates": _near_duplicates(self.near_duplicates),
            "ranges": _ranges(self.value_range),
        }
        names = [one.name for one in choose(self.require)] if self.require else []
        for name in names:
            if name not in [one.name for one in checked["chosen"]]:
                raise InputError("require", expected="criteria that the audit applies", received=repr(name))
        for name, value in {**checked, "required": tuple(names)}.items():
            object.__setattr__(self, name, value)

    @classmethod
    def words(cls, name: str) -> str:
        """An option in a sentence, as the command's help shows it."""
        return WORDS[name]

    def given(self) -> dict[str, Any]:
        """The options by name, as `memfast.audit` takes them."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.init}

    @property
    def statistics(self) -> Statistics:
        """Confidence, resamples and seed."""
        return Statistics(self.confidence, self.resamples, self.seed)

    @property
    def needs(self) -> frozenset[str]:
        """What the criteria read beside the nearest distances; see `memfast.criteria.Criterion`."""
        return frozenset(need for criterion in self.chosen for need in criterion.needs)

    @property
    def tiles(self) -> int:
        """Tiles per side that a criterion reads; 0 where none does."""
        return max(criterion.tiles for criterion in self.chosen)


def _near_duplicates(given: Any) -> Any:
    from memfast.neighbors.duplicates import DuplicateGroups

    if given is None or isinstance(given, DuplicateGroups):
        return given
    return finite_number("near_duplicates", given, above=0, do="Or give memfast.neighbors.duplicates(...).")


def _ranges(given: Any) -> dict[str, tuple[float, float]]:
    """Set -> the values that mean 0 and 1 in it, for the sets that the caller named."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        return dict.fromkeys(SETS, _range("value_range", given))
    unknown = [name for name in given if name not in SETS]
    if unknown or not given:
        received = repr(unknown[0]) if unknown else "no set"
        raise InputError("value_range", expected=f"ranges of {', '.join(SETS)}", received=received)
    return {name: _range(f"value_range of {name}", one) for name, one in given.items()}


def _range(name: str, given: Any) -> tuple[float, float]:
    if not isinstance(given, Sequence | np.ndarray) or isinstance(given, str) or len(given) != 2:
        raise InputError(name, expected=_RANGE, received=repr(given)[:80])
    low, high = (finite_number(name, value) for value in given)
    if low >= high:
        raise InputError(name, expected=_RANGE, received=str(given))
    return low, high
