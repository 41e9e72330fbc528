"""The figures of a trace: every section of trace.json as a dataclass, and the one way to read them back.

`memfast.foundation.values.plain` turns them into JSON under the fields' names; `read_trace_figures` is the way back.
Series are tuples with None where nothing could be measured.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from memfast.foundation.deprecated import warn_deprecated
from memfast.foundation.errors import InputError
from memfast.foundation.records import read_record
from memfast.foundation.values import plain

KIND = "trace"
BRANCH_MEASURES = ("loss", "alignment_target", "alignment_initial")

Series = tuple[float | None, ...]


class KeyedRecord:
    """Attributes that may also be read by key, as when they were dictionaries. Deprecated."""

    def __getitem__(self, key: str) -> Any:
        if key not in {one.name for one in fields(self)}:  # type: ignore[arg-type]
            raise KeyError(key)
        name = type(self).__name__
        warn_deprecated(f"{name}[{key!r}]", f"the attribute {name}.{key}", stacklevel=2)
        return plain(getattr(self, key))


@dataclass(frozen=True)
class SeedCurve:
    """A measure over the states, its mean over the seeds and Student's 95 % interval of it.

    Attributes:
        mean: one value per state.
        low: the interval's lower end; None for a single seed.
        high: its upper end.
    """

    mean: Series
    low: Series = ()
    high: Series = ()


@dataclass(frozen=True)
class BranchCurves:
    """A measure of the network's estimate over the states without the finished sample, means over the seeds.

    Attributes:
        guided: of the estimate that the sampler goes by.
        conditional: of the one with the condition alone.
        unconditional: of the one without; None where the network was never asked.
    """

    guided: Series | None = None
    conditional: Series | None = None
    unconditional: Series | None = None


@dataclass(frozen=True)
class Posterior:
    """The posterior over the training items, if the training set were all there is.

    Attributes:
        max_weight: the likeliest item's weight in each state, in [0, 1], mean over the seeds.
    """

    max_weight: Series | None = None


@dataclass(frozen=True)
class TargetSimilarity:
    """How near finished samples come to their target.

    Attributes:
        mean: over the seeds; None without a target.
        per_seed: each seed's; None without a target.
        name: ``negative RMS`` (0 is equal) or ``cosine of ...`` (1 is equal).
    """

    mean: float | None = None
    per_seed: Series | None = None
    name: str | None = None


@dataclass(frozen=True)
class NearestItem:
    """The training item that is nearest to a finished sample.

    Attributes:
        index: its row in the training set.
        rms: the root mean square difference in front of the network.
    """

    index: int
    rms: float | None = None


@dataclass(frozen=True)
class SeedTrace(KeyedRecord):
    """One seed of a condition.

    Attributes:
        seed: its number.
        similarity: of its finished sample to the target; None without one.
        d1: the target's weight above its line, summed over the states; None without a target.
        d2: the initial noise's weight below its line.
        nearest: the nearest training item; None without a bank.
        detectors: each detector's score, higher is more memorized.
    """

    seed: int
    similarity: float | None = None
    d1: float | None = None
    d2: float | None = None
    nearest: NearestItem | None = None
    detectors: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class ConditionTrace(KeyedRecord):
    """One condition: a class or a prompt, with all its seeds.

    Attributes:
        name: what tables and figures call it.
        label: its class; None of a prompt.
        memorized: what is known of it.
        w_target: the target's weight in each state; see ``memfast.trace.decompose``.
        w_initial: the initial noise's weight.
        residual: root mean square of what neither explains.
        diversity: mean distance between the states of different seeds; None for a single seed.
        loss: squared error of the estimate of the clean item against the target, summed over its values.
        alignment_target: cosine of that estimate with the target.
        alignment_initial: cosine of the noise estimate with the initial noise.
        branch_gap: norm of conditional minus unconditional noise estimate; in a state without signal, where the two are
            equal whatever the network says, of the clean estimates.
        d1: the target's weight above its line, summed over the states, larger is more memorized; None without a target.
        d2: the initial noise's weight below its line.
        overestimation: how many times as far as the target the first estimate goes from the mean of clean items.
        normalised_loss: root mean square error of the clean estimate for the noised target at the first level.
        posterior: None without a bank.
        similarity: of the finished samples to the target.
        detectors: each detector's mean score.
        seeds: the seeds one by one.
        has_target: whether it has a training item to be measured against.
    """

    name: str
    label: int | None = None
    memorized: bool | None = None
    w_target: SeedCurve | None = field(default=None, repr=False)
    w_initial: SeedCurve | None = field(default=None, repr=False)
    residual: SeedCurve | None = field(default=None, repr=False)
    diversity: Series | None = field(default=None, repr=False)
    loss: BranchCurves = field(default=BranchCurves(), repr=False)
    alignment_target: BranchCurves = field(default=BranchCurves(), repr=False)
    alignment_initial: BranchCurves = field(default=BranchCurves(), repr=False)
    branch_gap: Series | None = field(default=None, repr=False)
    d1: float | None = None
    d2: float | None = None
    overestimation: float | None = None
    normalised_loss: float | None = None
    posterior: Posterior | None = field(default=None, repr=False)
    similarity: TargetSimilarity = field(default=TargetSimilarity(), repr=False)
    detectors: Mapping[str, float | None] = field(default_factory=dict)
    seeds: tuple[SeedTrace, ...] = field(default=(), repr=False)
    has_target: bool | None = None


@dataclass(frozen=True)
class Lines:
    """Weights of the target and of the initial noise by theory, one per state."""

    w_target: Series
    w_initial: Series


@dataclass(frozen=True)
class Theory:
    """What the weights would be.

    Attributes:
        schedule: the shares that the noise schedule gives signal and noise.
        constant_estimate: the weights of a deterministic run whose clean estimate is the target in every state.
    """

    schedule: Lines | None = None
    constant_estimate: Lines | None = None


@dataclass(frozen=True)
class Correlation:
    """Pearson's r and Fisher's 95 % interval of it.

    Attributes:
        pearson: in [-1, 1]; None where it is not defined.
        interval: (low, high); None for fewer than four points.
        n: how many points.
    """

    pearson: float | None
    interval: tuple[float, float] | None
    n: int


@dataclass(frozen=True)
class Correlations:
    """Of each condition's score with the mean similarity of its samples to the target."""

    d1: Correlation | None = None
    d2: Correlation | None = None


@dataclass(frozen=True)
class ShareFound:
    """The share of the memorized that is found while at most a given share of the others is flagged.

    Attributes:
        fpr: that share of the others.
        tpr: the share found.
        interval: its 95 % interval.
    """

    fpr: float
    tpr: float | None = None
    interval: tuple[float | None, float | None] | None = None


@dataclass(frozen=True)
class RocPoints:
    """A ROC curve: shares of the others flagged, and of the memorized found."""

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]


@dataclass(frozen=True)
class DetectorQuality:
    """How well a detector tells the memorized conditions from the others.

    Attributes:
        auc: area under the ROC curve, 1 separates them, 0.5 is guessing.
        auc_interval: DeLong's 95 % interval.
        tpr_at_fpr: at a fixed share of false alarms.
        positives: memorized conditions.
        negatives: the others.
        roc: the curve.
    """

    auc: float
    auc_interval: tuple[float | None, float | None] | None = None
    tpr_at_fpr: ShareFound | None = None
    positives: int = 0
    negatives: int = 0
    roc: RocPoints | None = field(default=None, repr=False)


@dataclass(frozen=True)
class SweepCondition:
    """One condition at one guidance scale, as in ``ConditionTrace``; ``early_loss``: its mean guided loss early on."""

    name: str
    memorized: bool | None = None
    d1: float | None = None
    d2: float | None = None
    overestimation: float | None = None
    similarity: float | None = None
    early_loss: float | None = None


@dataclass(frozen=True)
class SweepEntry:
    """All conditions at one guidance scale."""

    guidance: int | float
    conditions: tuple[SweepCondition, ...]


@dataclass(frozen=True)
class TraceSource:
    """What was traced.

    Attributes:
        name: of the run's folder, or of the pipeline.
        family: ``memfast`` or ``diffusers``.
        prediction_type: what the network predicts.
        item_shape: shape of one item in front of the network.
    """

    name: str | None = None
    family: str | None = None
    prediction_type: str | None = None
    item_shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class RunSource(TraceSource):
    """A run of memfast.

    Attributes:
        step: the training steps behind the weights.
        weights: ``model`` or an average's name.
        schedule: the noise schedule's name.
    """

    step: int | None = None
    weights: str | None = None
    schedule: str | None = None


@dataclass(frozen=True)
class PipelineSource(TraceSource):
    """A diffusers pipeline.

    Attributes:
        pipeline: its class.
        network: its network's class.
        dtype: its network's dtype.
    """

    pipeline: str | None = None
    network: str | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class TraceSampler:
    """How samples were drawn.

    Attributes:
        method: the sampler's name, or its name and options; a pipeline's scheduler.
        steps: steps.
        guidance: the scale, or a rule's name and options.
        seeds: the seeds' numbers, the same for every condition.
        target: ``train``: measured against training items; ``final``: against each sample's own end.
    """

    method: str | Mapping[str, Any] | None = None
    steps: int | None = None
    guidance: int | float | Mapping[str, Any] | None = None
    seeds: tuple[int, ...] = ()
    target: str | None = None


@dataclass(frozen=True)
class RunSampler(TraceSampler):
    """A sampler of memfast.

    Attributes:
        seed: the seed of all noise.
        spacing: of the timesteps.
        clip: (least, greatest) value of clean estimates, or None.
    """

    seed: int | None = None
    spacing: str | None = None
    clip: tuple[float, float] | None = None


@dataclass(frozen=True)
class TraceProvenance:
    """What a trace ran on.

    Attributes:
        versions: of the packages.
        machine: the machine.
        commit: of memfast's own checkout, or None.
        targets: content hash of the targets.
        bank: content hash of the bank.
    """

    versions: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] | None = None
    commit: str | None = None
    targets: str | None = None
    bank: str | None = None


@dataclass(frozen=True, kw_only=True)
class TraceFigures:
    """Everything that a trace measured, which is what trace.json holds.

    Attributes:
        source: what was traced.
        sampler: how samples were drawn.
        timesteps: each state's timestep, None for the finished sample; S states, the noisiest first.
        alpha_bar: each state's alpha**2.
        alpha: each state's share of the signal.
        sigma: each state's share of the noise.
        theory: what the weights would be.
        conditions: one entry per condition.
        correlations: of D1 and D2 with similarity; None without a target.
        detection: each detector's quality; None unless some conditions are memorized and some are not.
        guidance_sweep: the conditions at further guidance scales; None without a sweep.
        provenance: what it ran on.
    """

    source: TraceSource | RunSource | PipelineSource | None = None
    sampler: TraceSampler | RunSampler | None = None
    timesteps: tuple[int | None, ...] | None = None
    alpha_bar: Series | None = None
    alpha: Series | None = None
    sigma: Series | None = None
    theory: Theory | None = None
    conditions: tuple[ConditionTrace, ...] = ()
    correlations: Correlations | None = None
    detection: Mapping[str, DetectorQuality] | None = None
    guidance_sweep: tuple[SweepEntry, ...] | None = None
    provenance: TraceProvenance | None = None

    def to_dict(self) -> dict[str, Any]:
        """``trace.json``: plain values for strict JSON, None for what could not be measured."""
        return {"kind": KIND, **{one.name: plain(getattr(self, one.name)) for one in fields(TraceFigures)}}


def read_trace_figures(content: Any, path: str = "trace") -> TraceFigures:
    """The figures that ``TraceFigures.to_dict`` had turned into ``content``; fields may be missing.

    Args:
        content: plain values, as ``json.loads`` gives them.
        path: what errors call the whole.

    Raises:
        InputError: no trace, one without conditions, a field of another type, curves of different lengths.
    """
    if not isinstance(content, Mapping) or content.get("kind") != KIND:
        kind = content.get("kind") if isinstance(content, Mapping) else type(content).__name__
        raise InputError(path, expected="the content of a trace.json (kind 'trace')", received=repr(kind)[:80])
    named = {key: value for key, value in content.items() if key != "kind"}
    kept = {key: _without_none(value) if key == "conditions" else value for key, value in named.items()}
    figures = read_record(TraceFigures, kept, path)
    if not figures.conditions:
        raise InputError(path, expected="at least one condition", received="none")
    _check_lengths(figures, path)
    return figures


def _without_none(conditions: Any) -> Any:
    """Conditions whose missing sections are left out, so that they get their defaults."""
    if not isinstance(conditions, list | tuple):
        return () if conditions is None else conditions
    return [
        {key: _aligned(key, value) for key, value in one.items() if value is not None}
        if isinstance(one, Mapping)
        else one
        for one in conditions
    ]


def _aligned(key: str, value: Any) -> Any:
    """Branches that lack the first states, as earlier versions wrote them of runs that start without signal."""
    if key not in BRANCH_MEASURES or not isinstance(value, Mapping) or not isinstance(value.get("guided"), list):
        return value
    count = len(value["guided"])
    return {
        branch: [None] * (count - len(curve)) + curve if isinstance(curve, list) else curve
        for branch, curve in value.items()
    }


def _check_lengths(figures: TraceFigures, path: str) -> None:
    """Each series has one value per state, or one per state that the network saw."""
    counts: dict[bool, int] = {}
    if figures.timesteps is not None:
        counts = {True: len(figures.timesteps), False: len(figures.timesteps) - 1}
    for where, of_states, values in _all_series(figures):
        if len(values) != counts.setdefault(of_states, len(values)):
            raise InputError(
                f"{path}.{where}", expected=f"{counts[of_states]} values, one per state", received=str(len(values))
            )
    sweep = figures.guidance_sweep or ()
    for number, entry in enumerate(sweep):
        if len(entry.conditions) != len(sweep[0].conditions):
            raise InputError(
                f"{path}.guidance_sweep[{number}].conditions", expected=f"{len(sweep[0].conditions)} conditions",
                received=str(len(entry.conditions)),
            )  # fmt: skip
    for name, one in (figures.detection or {}).items():
        if one.roc is not None and len(one.roc.fpr) != len(one.roc.tpr):
            raise InputError(
                f"{path}.detection.{name}.roc", expected=f"{len(one.roc.fpr)} values in tpr, as in fpr",
                received=str(len(one.roc.tpr)),
            )  # fmt: skip


def _all_series(figures: TraceFigures) -> Iterator[tuple[str, bool, Series]]:
    """(where, whether the finished sample is among its states, values) of every series that there is."""
    for name in ("alpha_bar", "alpha", "sigma"):
        if getattr(figures, name) is not None:
            yield name, True, getattr(figures, name)
    if figures.theory is not None:
        for name, lines in (
            ("schedule", figures.theory.schedule),
            ("constant_estimate", figures.theory.constant_estimate),
        ):
            if lines is not None:
                yield f"theory.{name}.w_target", True, lines.w_target
                yield f"theory.{name}.w_initial", True, lines.w_initial
    for number, one in enumerate(figures.conditions):
        where = f"conditions[{number}]"
        for name in ("w_target", "w_initial", "residual"):
            curve = getattr(one, name)
            for part in ("mean", "low", "high"):
                if curve is not None and (part == "mean" or getattr(curve, part)):
                    yield f"{where}.{name}.{part}", True, getattr(curve, part)
        if one.diversity is not None:
            yield f"{where}.diversity", True, one.diversity
        for name in BRANCH_MEASURES:
            for branch in ("guided", "conditional", "unconditional"):
                values = getattr(getattr(one, name), branch)
                if values is not None:
                    yield f"{where}.{name}.{branch}", False, values
        if one.branch_gap is not None:
            yield f"{where}.branch_gap", False, one.branch_gap
        if one.posterior is not None and one.posterior.max_weight is not None:
            yield f"{where}.posterior.max_weight", False, one.posterior.max_weight
