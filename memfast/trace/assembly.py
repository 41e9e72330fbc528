"""From the measures of batches to the figures of a trace."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from memfast.detectors import Detector, roc
from memfast.foundation import provenance
from memfast.foundation.errors import InputError
from memfast.neighbors import knn
from memfast.results.trace import (
    BranchCurves,
    ConditionTrace,
    Correlations,
    DetectorQuality,
    Lines,
    NearestItem,
    Posterior,
    RocPoints,
    SeedCurve,
    SeedTrace,
    Series,
    ShareFound,
    SweepCondition,
    SweepEntry,
    TargetSimilarity,
    Theory,
    TraceProvenance,
)
from memfast.trace.config import ConditionSet, Features
from memfast.trace.intervals import correlation, mean_over_seeds
from memfast.trace.measure import BRANCHES, OF_STATE, BatchMeasures
from memfast.trace.theory import Weights, deviation_from, level_lines

NEGATIVE_RMS = "negative RMS"
FALSE_POSITIVE_RATE = 0.01
# The share of a run's steps that counts as early.
EARLY_SHARE = 0.2
MEASURES = (*OF_STATE, "gap", *(f"{kind}_{name}" for kind in ("loss", "target", "initial") for name in BRANCHES))


class Finished(NamedTuple):
    """What is known of the finished samples of P conditions times K seeds.

    Attributes:
        similarity: float64 ``[P, K]`` to the target, NaN without one.
        name: of that similarity.
        squared_distances: ``[P, K, k]`` to the nearest items of the bank, or None.
        nearest: int64 ``[P, K, k]``, their indices, or None.
        numel: values of one item.
    """

    similarity: np.ndarray
    name: str
    squared_distances: np.ndarray | None
    nearest: np.ndarray | None
    numel: int


class StateLevel(NamedTuple):
    """The noise level of a state."""

    timestep: int | None
    alpha: float
    sigma: float


class Assembly:
    """Collects the batches of a trace.

    Args:
        bank: ``[N, ...]``, for nearest items, or None.
        features: of finished samples and targets, for a cosine instead of the RMS; with its name.
        detectors: those of the run that look at distances.

    Attributes:
        conditions: the entries so far.
        samples: the finished samples so far, one tensor per batch.
        states: all states so far, one tensor per batch, if they were kept.
        levels: of the states; the same for every batch.
    """

    def __init__(
        self,
        bank: torch.Tensor | None = None,
        features: tuple[str, Features] | None = None,
        detectors: dict[str, Detector] | None = None,
    ) -> None:
        self.bank, self.features, self.detectors = bank, features, detectors or {}
        self.conditions: list[ConditionTrace] = []
        self.samples: list[torch.Tensor] = []
        self.states: list[torch.Tensor] = []
        self.levels: list[StateLevel] = []

    def add(self, measured: BatchMeasures, part: ConditionSet) -> None:
        """One batch."""
        if not self.levels:
            self.levels = [StateLevel(one.timestep, one.alpha, one.sigma) for one in measured.statistics.states]
        lines = level_lines([level.alpha for level in self.levels], [level.sigma for level in self.levels])
        finished = self._finished(measured.samples, part)
        scores = dict(measured.scores)
        for name, found in self.detectors.items():
            if finished.squared_distances is not None:
                rows = finished.squared_distances
                found.begin(rows.shape[0] * rows.shape[1])
                found.distances(rows.reshape(-1, rows.shape[2]))
                scores[name] = found.scores().reshape(rows.shape[:2])
        series = {name: measured.statistics.series(name) for name in MEASURES}
        for place in range(len(part.names)):
            self.conditions.append(_condition(place, part, measured, series, scores, finished, lines))
        self.samples.append(measured.samples.cpu())
        if measured.states is not None:
            self.states.append(measured.states)

    def theory(self) -> Theory:
        """The lines of theory at these levels."""
        alpha, sigma = [level.alpha for level in self.levels], [level.sigma for level in self.levels]
        own, constant = level_lines(alpha, sigma), level_lines(alpha, sigma, overestimate=1.0)
        return Theory(*(Lines(_series(one.w_target), _series(one.w_initial)) for one in (own, constant)))

    def sweep_entry(self, scale: float) -> SweepEntry:
        """The conditions at one guidance scale, in short."""
        return SweepEntry(
            scale,
            tuple(
                SweepCondition(
                    one.name, one.memorized, one.d1, one.d2, one.overestimation, one.similarity.mean,
                    early_loss(one.loss.guided),
                )
                for one in self.conditions
            ),
        )  # fmt: skip

    def _finished(self, samples: torch.Tensor, part: ConditionSet) -> Finished:
        shape = (len(part.names), len(part.seeds))
        name, similarity = NEGATIVE_RMS, np.full(shape, np.nan)
        if part.targets is not None:
            if self.features is not None:
                name, extract = f"cosine of {self.features[0]}", self.features[1]
                own = _features(extract, samples).reshape(*shape, -1)
                goal = _features(extract, part.targets).reshape(shape[0], 1, -1)
                similarity = torch.nn.functional.cosine_similarity(own, goal, dim=2).numpy()
            else:
                target = part.targets.to(samples.device).double().flatten(1)
                error = samples.double().reshape(*shape, -1) - target[:, None]
                similarity = -error.square().mean(dim=2).sqrt().cpu().numpy()
            similarity[~part.has_target] = np.nan
        squared = indices = None
        if self.bank is not None:
            found = knn(samples.float().cpu().flatten(1), self.bank.flatten(1), min(2, len(self.bank)))
            squared = np.asarray(found.squared_distances, np.float64).reshape(*shape, -1)
            indices = np.asarray(found.indices).reshape(*shape, -1)
        return Finished(similarity, name, squared, indices, int(np.prod(samples.shape[1:])))


def _condition(
    place: int,
    part: ConditionSet,
    measured: BatchMeasures,
    series: dict[str, np.ndarray | None],
    scores: dict[str, np.ndarray],
    finished: Finished,
    lines: Weights,
) -> ConditionTrace:
    statistics = measured.statistics
    has = bool(statistics.has_target[place])

    def over_states(name: str) -> np.ndarray | None:
        values = series[name]
        return None if values is None else values[:, place]

    w_target, w_initial = over_states("w_target"), over_states("w_initial")

    def deviation(seeds: slice) -> tuple[float, float] | tuple[None, None]:
        if not has or w_target is None or w_initial is None:
            return None, None
        found = deviation_from(w_target[:, seeds], w_initial[:, seeds], lines)
        return found.d1, found.d2

    def curve(name: str) -> SeedCurve | None:
        values = over_states(name)
        return None if values is None else SeedCurve(*map(_series, mean_over_seeds(values)))

    def mean(name: str) -> Series | None:
        values = over_states(name)
        return None if values is None else _series(values.mean(axis=1))

    def of_seed(k: int) -> SeedTrace:
        d1, d2 = deviation(slice(k, k + 1))
        detected = {name: _number(values[place, k]) for name, values in scores.items()}
        return SeedTrace(
            int(part.seeds[k]), _number(similarity[k]), d1, d2, _nearest(finished, place, k), detected
        )  # fmt: skip

    def branches(kind: str) -> BranchCurves:
        return BranchCurves(**{name: mean(f"{kind}_{name}") for name in BRANCHES})

    spread = [state.diversity for state in statistics.states]
    similarity = finished.similarity[place]
    d1, d2 = deviation(slice(None))
    max_weight = None if measured.max_weight is None else Posterior(_series(measured.max_weight[:, place]))
    return ConditionTrace(
        name=part.names[place],
        label=None if part.labels is None else int(part.labels[place]),
        memorized=part.memorized[place],
        w_target=curve("w_target"),
        w_initial=curve("w_initial"),
        residual=curve("residual"),
        diversity=None if spread[0] is None else _series([one[place] for one in spread if one is not None]),
        loss=branches("loss"),
        alignment_target=branches("target"),
        alignment_initial=branches("initial"),
        branch_gap=mean("gap"),
        d1=d1,
        d2=d2,
        overestimation=_number(measured.overestimation[place]),
        normalised_loss=_number(measured.normalised_loss[place]),
        posterior=max_weight,
        similarity=TargetSimilarity(
            _number(similarity.mean()), None if np.isnan(similarity).all() else _series(similarity), finished.name
        ),
        detectors={name: _number(values[place].mean()) for name, values in scores.items()},
        seeds=tuple(of_seed(k) for k in range(len(part.seeds))),
        has_target=bool(part.has_target[place]),
    )  # fmt: skip


def early_loss(values: Series | None) -> float | None:
    """Mean guided loss over the first ``EARLY_SHARE`` of the steps; None without a target."""
    early = () if values is None else values[: max(1, round(EARLY_SHARE * len(values)))]
    known = [value for value in early if value is not None]
    return float(np.mean(known)) if known else None


def correlations(conditions: Sequence[ConditionTrace]) -> Correlations | None:
    """Pearson's r of each condition's D1 and D2 with its mean similarity; None without a target."""
    known = [one for one in conditions if one.d1 is not None and one.similarity.mean is not None]
    if not known:
        return None
    similarity = np.array([one.similarity.mean for one in known], dtype=np.float64)
    scores = (np.array([getattr(one, name) for one in known], dtype=np.float64) for name in ("d1", "d2"))
    return Correlations(*(correlation(values, similarity) for values in scores))


def detection(conditions: Sequence[ConditionTrace]) -> dict[str, DetectorQuality] | None:
    """Each detector's ROC over the conditions that are labelled, or None where they are not of both kinds."""
    known = [one for one in conditions if one.memorized is not None]
    truth = np.array([one.memorized for one in known], dtype=bool)
    if not truth.any() or truth.all():
        return None
    found = {}
    for name in known[0].detectors:
        scores = np.array([one.detectors.get(name) for one in known], dtype=np.float64)
        if not np.isfinite(scores).all():
            continue
        curve = roc(scores, truth)
        at, interval = curve.tpr_at(FALSE_POSITIVE_RATE)
        low, high = (_number(end) for end in curve.auc_interval)
        found[name] = DetectorQuality(
            float(curve.auc), (low, high),
            ShareFound(FALSE_POSITIVE_RATE, _number(at), (_number(interval[0]), _number(interval[1]))),
            int(truth.sum()), int((~truth).sum()),
            RocPoints(tuple(map(float, curve.fpr)), tuple(map(float, curve.tpr))),
        )  # fmt: skip
    return found


def provenance_of(targets: torch.Tensor | None, bank: torch.Tensor | None) -> TraceProvenance:
    """What a trace ran on."""
    return TraceProvenance(
        provenance.versions(), provenance.machine(), provenance.commit(), _hash(targets), _hash(bank)
    )


def _nearest(finished: Finished, place: int, k: int) -> NearestItem | None:
    if finished.nearest is None or finished.squared_distances is None:
        return None
    rms = np.sqrt(float(finished.squared_distances[place, k, 0]) / finished.numel)
    return NearestItem(int(finished.nearest[place, k, 0]), float(rms))


def _features(extract: Features, items: torch.Tensor) -> torch.Tensor:
    """float64 ``[n, F]`` on the CPU, wherever the extractor left them, and without its graph."""
    with torch.no_grad():
        found = torch.as_tensor(extract(items)).detach().cpu().double()
    if found.ndim == 0 or len(found) != len(items):
        raise InputError("features", expected=f"one row for each of {len(items)} items", received=str([*found.shape]))
    if not torch.isfinite(found).all():
        raise InputError("features", expected="finite values", received="NaN or infinity")
    return found


def _hash(tensor: torch.Tensor | None) -> str | None:
    return None if tensor is None else provenance.content_hash(tensor.detach().float().cpu().numpy())


def _series(values: Any) -> Series:
    return tuple(_number(value) for value in values)


def _number(value: Any) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None
