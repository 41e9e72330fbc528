"""The figures of an audit: every section of result.json as a dataclass, and the one way to read them back.

`memfast.foundation.values.plain` turns them into JSON under the fields' names; `read_figures` is the way back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memfast.foundation.errors import InputError
from memfast.foundation.proportions import Interval, Proportion
from memfast.foundation.records import read_record
from memfast.neighbors.result import Recall

SCHEMA = "memfast.audit/2"
READABLE = ("memfast.audit/1", SCHEMA)


@dataclass(frozen=True)
class Unread:
    """Entries of a set that were not read, for one reason.

    Attributes:
        reason: why, as a noun phrase that follows the count: ``"broken links"``.
        count: how many entries.
        names: the first few of them.
    """

    reason: str
    count: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class InputDescription:
    """One set of an audit.

    Attributes:
        name: what a person calls it, for example the folder.
        count: its items.
        distinct: its different items.
        item_shape: shape of one item; None for training items that stand in for held-out data.
        dtype: of the values.
        sha256: hash of the content.
        conversion: what was done to the images of its files; None where they were taken as they are.
        skipped: (name, reason) of each unreadable item that was left out on request.
        not_read: every entry that is no item of the set, counted by reason.
        low: the smallest value; None in results of the first schema.
        high: the largest value.
        value_range: the values that mean 0 and 1 in this set.
    """

    name: str
    count: int
    distinct: int
    item_shape: tuple[int, ...] | None = None
    dtype: str | None = None
    sha256: str | None = None
    conversion: Mapping[str, Any] | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    not_read: tuple[Unread, ...] = ()
    low: float | None = None
    high: float | None = None
    value_range: Interval | None = None


@dataclass(frozen=True)
class GeneratedInput(InputDescription):
    """The generated set.

    Attributes:
        exact_copies: samples that equal a training item in every value.
        is_training_set: whether it holds the same items as the training set.
        in_held_out: samples that equal a held-out item in every value.
    """

    exact_copies: int = 0
    is_training_set: bool = False
    in_held_out: int = 0


@dataclass(frozen=True)
class NearDuplicates:
    """Groups of training items that counted as one.

    Attributes:
        groups: how many groups of two or more.
        items: the items in them.
        largest: items in the largest.
        listed: names in the first groups.
    """

    groups: int
    items: int
    largest: int
    listed: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class TrainingInput(InputDescription):
    """The training set.

    Attributes:
        duplicate_groups: groups of exactly equal items.
        duplicates: names in the first of these groups.
        near_duplicates: groups that counted as one item; None where none were joined.
    """

    duplicate_groups: int = 0
    duplicates: tuple[tuple[str, ...], ...] = ()
    near_duplicates: NearDuplicates | None = None


@dataclass(frozen=True)
class HeldOutInput(InputDescription):
    """The held-out set, or what stood in for it.

    Attributes:
        origin: ``"given"``, or ``"leave-one-out"`` for training items that were each compared with the others.
        in_training: items that are exactly in the training set.
        is_generated_set: whether it holds the same items as the generated set.
    """

    origin: str = "given"
    in_training: int = 0
    is_generated_set: bool = False


@dataclass(frozen=True)
class AuditInputs:
    """The sets.

    Attributes:
        kind: ``"images"``, ``"signals"`` or ``"values"``.
        units: what a distance of 1 means, in words.
        generated: the generated set.
        training: the training set.
        held_out: the held-out set, or None.
    """

    kind: str
    units: str
    generated: GeneratedInput
    training: TrainingInput
    held_out: HeldOutInput | None


@dataclass(frozen=True)
class Parameters:
    """The options behind the figures; see `memfast.auditing.AuditConfig`.

    Attributes:
        k: nearest training items known per sample.
        asked_k: how many were asked for.
        near_duplicates: the difference up to which training items were joined, ``"given"`` for given groups, or None.
    """

    k: int
    asked_k: int
    confidence: float
    resamples: int
    seed: int
    backend: str
    approximate: str | None
    near_duplicates: float | str | None
    controls: bool | None = None
    planted: int | None = None


@dataclass(frozen=True)
class SearchInfo:
    """How neighbours were found.

    Attributes:
        exactness: ``"exact"``, ``"certified"`` or ``"approximate"``, as `memfast.Neighbors` says.
        recall: of an approximate search, as measured.
        searched_exactly: samples that an index gave too few neighbours and that were searched exactly instead.
    """

    exactness: str
    recall: Recall | None
    searched_exactly: int = 0

    def __post_init__(self) -> None:
        if self.exactness not in ("exact", "certified", "approximate"):
            raise InputError(
                "exactness", expected="exact, certified or approximate", received=repr(self.exactness)[:80]
            )


@dataclass(frozen=True)
class CopyShare(Proportion):
    """The samples that count as copies.

    Attributes:
        distinct_training_items: how many different training items they copy.
    """

    distinct_training_items: int = 0


@dataclass(frozen=True)
class Excess:
    """How much more often generated samples are flagged than held-out items: the difference and its interval."""

    difference: float
    newcombe: Interval


@dataclass(frozen=True)
class LevelShares:
    """The shares at one more threshold."""

    threshold: float
    generated: Proportion
    held_out: Proportion | None = None


@dataclass(frozen=True)
class Curve:
    """Shares over thresholds, each as long as ``thresholds``."""

    thresholds: tuple[float, ...]
    generated: tuple[float, ...]
    held_out: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for values in (self.generated, self.held_out):
            if values is not None and len(values) != len(self.thresholds):
                raise InputError(
                    "curve", expected=f"{len(self.thresholds)} values, one per threshold", received=str(len(values))
                )


@dataclass(frozen=True)
class MatchedThreshold:
    """The share of samples beyond the score that at most 1 % of held-out items pass.

    Attributes:
        held_out_fraction: of held-out items beyond it.
        threshold: that score.
        generated: the share of samples beyond it.
    """

    held_out_fraction: float
    threshold: float
    generated: Proportion


@dataclass(frozen=True)
class CriterionResult:
    """What one criterion found.

    Attributes:
        name: what users write.
        title: what a person reads.
        definition: the formula.
        source: who defined it.
        copies_are_low: whether a lower score is more of a copy.
        threshold: where a sample counts as a copy.
        parameters: the criterion's options.
        applicable: whether it could be applied to this data.
        why_not: the reason why it could not.
        high_by_nature: whether it flags many honest samples too.
        notes: what a reader must know.
        generated: the share of copies; None where it was not applied, like everything below.
        held_out: the floor, or None without one.
        excess: the difference of the two.
        levels: the shares at other thresholds.
        curve: the shares over a grid of thresholds.
        matched: the share at the threshold that held-out data set; None for fewer than 100 of them.
    """

    name: str
    title: str
    definition: str
    source: str
    copies_are_low: bool
    threshold: float
    parameters: Mapping[str, Any]
    applicable: bool
    why_not: str | None
    high_by_nature: bool = False
    notes: tuple[str, ...] = ()
    generated: CopyShare | None = None
    held_out: Proportion | None = None
    excess: Excess | None = None
    levels: tuple[LevelShares, ...] = ()
    curve: Curve | None = None
    matched: MatchedThreshold | None = None

    def __post_init__(self) -> None:
        if self.applicable and (self.generated is None or self.curve is None):
            raise InputError("generated", expected="the share and curve of a criterion that applies", received="none")

    @property
    def copies(self) -> CopyShare:
        """The share of copies of a criterion that was applied.

        Raises:
            InputError: it was not.
        """
        if self.generated is None:
            raise InputError(
                f"criterion {self.name}", expected="one that applies to this data", received=str(self.why_not)
            )
        return self.generated


@dataclass(frozen=True)
class NearestDistances:
    """Quantiles (``"0%"``, ``"1%"``, ... ``"100%"``) of the distance to the nearest training item, in [0, 1] units."""

    generated: Mapping[str, float]
    held_out: Mapping[str, float] | None


@dataclass(frozen=True)
class CloserThan:
    """A permutation test: is the generated set closer to the training set than held-out data?

    Attributes:
        closer: the chance that a sample is closer than a held-out item; 0.5 is no difference.
        p_value: one-sided.
        permutations: how many.
    """

    closer: float
    p_value: float
    permutations: int


@dataclass(frozen=True)
class ClassResult:
    """One class.

    Attributes:
        label: its number.
        total: its samples.
        criteria: criterion's name -> the share of copies among them.
        held_out: the same of the held-out items of the class; None where it has none.
    """

    label: int
    total: int
    criteria: Mapping[str, Proportion]
    held_out: Mapping[str, Proportion] | None = None


@dataclass(frozen=True)
class ClassResults:
    """The figures per class.

    Attributes:
        labels_of: whose labels they are: ``"generated"`` or ``"nearest training item"``.
        names: number (as text) -> name of the classes that have one.
        classes: one entry per class.
    """

    labels_of: str
    names: Mapping[str, str]
    classes: tuple[ClassResult, ...]

    def name(self, label: int) -> str:
        """What a person calls a class: its name, or its number where it has none."""
        return self.names.get(str(label), f"class {label}")


@dataclass(frozen=True)
class CanaryShares:
    """By one criterion: the canaries that came back, and the samples that copy one of them."""

    came_back: Proportion
    samples: Proportion


@dataclass(frozen=True)
class CanaryGroup:
    """The canaries that were trained on equally often (``repeats``; None where that is not known)."""

    repeats: int | None
    canaries: int
    criteria: Mapping[str, CanaryShares]


@dataclass(frozen=True)
class CanaryResult:
    """One canary: its name, how often it was trained on, whether the data hold it too, and its copies by criterion."""

    canary: str
    repeats: int | None
    also_in_data: bool
    samples: Mapping[str, int]


@dataclass(frozen=True)
class CanaryResults:
    """Which of the known items in the training set came back: per group, and one by one for the first hundred."""

    count: int
    groups: tuple[CanaryGroup, ...]
    each: tuple[CanaryResult, ...]


@dataclass(frozen=True)
class Projection:
    """The sets on the training set's principal components.

    Attributes:
        fitted: training items that the components were fitted on.
        explained: share of the variance per component.
        points: set -> coordinates on the first two components.
        histograms: one per component: ``edges``, and each set's density in the bins.
    """

    fitted: int
    explained: tuple[float, ...]
    points: Mapping[str, tuple[tuple[float, float], ...]]
    histograms: tuple[Mapping[str, tuple[float, ...]], ...]

    def __post_init__(self) -> None:
        fits = len(self.explained) >= 2 and len(self.histograms) == len(self.explained)
        fits = fits and {"training", "generated"} <= set(self.points)
        for histogram in self.histograms:
            sides = {len(values) for name, values in histogram.items() if name != "edges"}
            fits = fits and "edges" in histogram and set(self.points) <= set(histogram)
            fits = fits and sides == {len(histogram.get("edges", ())) - 1}
        if not fits:
            raise InputError("projection", expected="points and a histogram of every set", received="other lengths")


@dataclass(frozen=True)
class PlantedCopies:
    """One way of copying: how often the original is the nearest item, and each criterion's share that was found."""

    copy: str
    strength: float
    words: str
    nearest_is_original: Proportion
    criteria: Mapping[str, Proportion]


@dataclass(frozen=True)
class PositiveControl:
    """Copies that the audit planted: how many training items were copied, in which ways, and what was found."""

    planted: int
    rows: tuple[PlantedCopies, ...]


@dataclass(frozen=True)
class Statement:
    """What was tested, what was found, what to beware of, and what is not proven, in sentences."""

    tested: tuple[str, ...]
    found: tuple[str, ...]
    warnings: tuple[str, ...]
    not_proven: tuple[str, ...]


@dataclass(frozen=True)
class Provenance:
    """What the figures were made with: the commit of memfast's checkout, versions of packages, the machine."""

    memfast_commit: str | None
    versions: Mapping[str, Any]
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class AuditFigures:
    """Everything that an audit counted, and how.

    Attributes:
        schema: of the file that holds them.
        inputs: the sets.
        parameters: the options.
        features: which features similarities are of: ``name``, ``width`` and what describes the extractor; or None.
        search: how neighbours were found.
        criteria: what each criterion found, in the order in which they were asked for.
        nearest: distances to the nearest training items.
        closer_than_held_out: a permutation test against the held-out set; None without one.
        per_class: figures per class; None without labels.
        canaries: which came back; None without canaries.
        projection: the sets on two and three components; None where the training set has none.
        positive_control: what was found of planted copies; None without controls.
        notes: what a reader must know.
        provenance: versions and machine.
        statement: all of it in sentences.
    """

    inputs: AuditInputs
    parameters: Parameters
    features: Mapping[str, Any] | None
    search: SearchInfo
    criteria: tuple[CriterionResult, ...]
    nearest: NearestDistances
    closer_than_held_out: CloserThan | None
    per_class: ClassResults | None
    canaries: CanaryResults | None
    projection: Projection | None
    positive_control: PositiveControl | None
    notes: tuple[str, ...]
    provenance: Provenance | None
    statement: Statement
    schema: str = SCHEMA

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.applicable]
        shares: list[Mapping[str, Any]] = [row.criteria for row in (self.per_class.classes if self.per_class else ())]
        shares += [group.criteria for group in (self.canaries.groups if self.canaries else ())]
        shares += [one.samples for one in (self.canaries.each if self.canaries else ())]
        if any(name not in one for one in shares for name in names):
            raise InputError(
                "criteria", expected="figures of every criterion that applies", received="some are missing"
            )

    @property
    def applicable(self) -> tuple[CriterionResult, ...]:
        """The criteria that could be applied."""
        return tuple(entry for entry in self.criteria if entry.applicable)

    @property
    def headline(self) -> CriterionResult | None:
        """The first criterion that could be applied, or None."""
        return next(iter(self.applicable), None)

    def criterion(self, name: str) -> CriterionResult:
        """The result of one criterion.

        Raises:
            InputError: no criterion of this name was asked for.
        """
        for entry in self.criteria:
            if entry.name == name:
                return entry
        names = ", ".join(entry.name for entry in self.criteria)
        raise InputError("criterion", expected=f"one of {names}", received=repr(name))


def read_figures(value: Any, path: str = "figures") -> AuditFigures:
    """The figures that plain values hold, of this schema or of the first.

    Args:
        value: what JSON held.
        path: what errors call it.

    Raises:
        InputError: another schema, or a field that is missing, unknown or of another type.
    """
    schema = value.get("schema") if isinstance(value, Mapping) else type(value).__name__
    if schema not in READABLE:
        raise InputError(path, expected=f"schema {SCHEMA} (or {READABLE[0]})", received=str(schema)[:80])
    return read_record(AuditFigures, {**value, "schema": SCHEMA}, path)
