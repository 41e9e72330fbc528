"""The one loop of every trace: conditions in batches through a sampler, measured state by state, then assembled."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from memfast.detectors import Detector, WatchedRun
from memfast.foundation.errors import InputError
from memfast.foundation.progress import Progress
from memfast.results.trace import TraceSampler, TraceSource
from memfast.sampling import Guidance
from memfast.trace.assembly import Assembly, correlations, detection, provenance_of
from memfast.trace.config import ConditionSet, Features, TraceConfig, choose_detectors
from memfast.trace.measure import BatchMeasures, BatchObserver
from memfast.trace.result import TraceResult


class Subject(Protocol):
    """What can be traced: it draws the samples of conditions and shows every state to an observer.

    Attributes:
        noun: what its conditions are called, for progress.
    """

    noun: str

    def conditions(self, config: TraceConfig) -> ConditionSet:
        """The conditions, checked, with their targets in front of the network."""

    def encode(self, what: str, items: object) -> torch.Tensor:
        """Items in front of the network, ``[N, ...]``; ``what`` is what errors call them."""

    def offers(self, conditions: ConditionSet, guidance: float | Guidance) -> WatchedRun:
        """What its runs can feed to detectors."""

    def prepare(self, detectors: dict[str, Detector]) -> None:
        """Get ready what these detectors need."""

    def rows_at_once(self, config: TraceConfig) -> int:
        """Samples in a batch."""

    def draw(self, part: ConditionSet, guidance: float | Guidance, observer: BatchObserver, *, in_full: bool) -> None:
        """Draw the samples of some conditions and show every state to ``observer``.

        Args:
            part: the conditions.
            guidance: the scale or the rule.
            observer: takes the states; ``in_full`` it also gets the network, the tokens and the attention.
            in_full: False for the runs of a sweep, where only the statistics count.
        """

    def sample_features(self, features: tuple[str, Features] | None) -> tuple[str, Features] | None:
        """The features as a function of samples in front of the network."""

    def source(self) -> TraceSource:
        """What is traced, for the result."""

    def sampler(self, config: TraceConfig, conditions: ConditionSet, guidance: float | Guidance) -> TraceSampler:
        """How it samples, for the result."""


@dataclass(frozen=True, eq=False)
class OpenedTrace:
    """A trace whose arguments have been checked and whose inputs are in front of the network.

    Attributes:
        subject: what is traced.
        config: what was asked for.
        conditions: all of them.
        guidance: of the main run.
        sweep: further guidance scales.
        mean: the mean of clean items, or None.
        bank: ``[N, ...]``, or None.
        watching: detectors that are fed states.
        comparing: detectors that are fed distances.
        features: of samples in front of the network.
    """

    subject: Subject
    config: TraceConfig
    conditions: ConditionSet
    guidance: float | Guidance
    sweep: list[float]
    mean: torch.Tensor | None
    bank: torch.Tensor | None
    watching: dict[str, Detector]
    comparing: dict[str, Detector]
    features: tuple[str, Features] | None

    def batches(self) -> Iterator[ConditionSet]:
        """The conditions, as many at once as fit."""
        count = max(1, self.subject.rows_at_once(self.config) // len(self.conditions.seeds))
        for start in range(0, len(self.conditions.names), count):
            yield self.conditions.part(start, count)


def open_trace(subject: Subject, config: TraceConfig) -> OpenedTrace:
    """Check everything before anything is drawn.

    Raises:
        InputError: arguments that cannot be used, or do not fit each other.
    """
    conditions = subject.conditions(config)
    guidance, sweep = config.guidances()
    bank = None if config.bank is None else subject.encode("bank", config.bank)
    mean = conditions.mean_target if config.mean is None else subject.encode("mean", config.mean)[0]
    offered = subject.offers(conditions, guidance)
    offered = WatchedRun(offered.branches, offered.attention, len(conditions.seeds), 0 if bank is None else len(bank))
    chosen = choose_detectors(config.detectors, offered)
    subject.prepare(chosen)
    return OpenedTrace(
        subject, config, conditions, guidance, sweep, mean, bank,
        {name: one for name, one in chosen.items() if not one.needs_distances},
        {name: one for name, one in chosen.items() if one.needs_distances},
        subject.sample_features(config.features),
    )  # fmt: skip


def trace(subject: Subject, config: TraceConfig) -> TraceResult:
    """Sample every condition of a subject and measure each state."""
    opened = open_trace(subject, config)
    assembly = Assembly(opened.bank, opened.features, opened.comparing)
    total, sweep = len(opened.conditions.names) * (1 + len(opened.sweep)), []
    with Progress("tracing", total, subject.noun, show=config.progress) as bar:
        for part in opened.batches():
            assembly.add(_measure_batch(opened, part, opened.guidance, in_full=True), part)
            bar.advance(len(part.names))
        for scale in opened.sweep:
            brief = Assembly(features=opened.features)
            for part in opened.batches():
                brief.add(_measure_batch(opened, part, scale, in_full=False), part)
                bar.advance(len(part.names))
            sweep.append(brief.sweep_entry(scale))
    alpha = tuple(level.alpha for level in assembly.levels)
    return TraceResult(
        source=subject.source(),
        sampler=subject.sampler(config, opened.conditions, opened.guidance),
        timesteps=tuple(level.timestep for level in assembly.levels),
        alpha_bar=tuple(value * value for value in alpha),
        alpha=alpha,
        sigma=tuple(level.sigma for level in assembly.levels),
        theory=assembly.theory(),
        conditions=tuple(assembly.conditions),
        correlations=correlations(assembly.conditions),
        detection=detection(assembly.conditions),
        guidance_sweep=tuple(sweep) or None,
        provenance=provenance_of(opened.conditions.targets, opened.bank),
        samples=torch.cat(assembly.samples),
        states=torch.cat(assembly.states, dim=1) if assembly.states else None,
    )


def _measure_batch(
    opened: OpenedTrace, part: ConditionSet, guidance: float | Guidance, *, in_full: bool
) -> BatchMeasures:
    """One batch, from noise to samples."""
    observer = BatchObserver(
        part.names, part.seeds, part.targets, part.has_target, opened.mean, final=part.target == "final",
        bank=opened.bank if in_full else None, detectors=opened.watching if in_full else {},
        keep_states=opened.config.keep_states and in_full, both_branches=in_full,
    )  # fmt: skip
    opened.subject.draw(part, guidance, observer, in_full=in_full)
    measured = observer.result()
    if opened.config.detectors is not None and in_full:
        for name in opened.watching:
            if name not in measured.scores:
                raise unfed_error(name)
    return measured


def unfed_error(name: str) -> InputError:
    """The error of a detector that was asked for by name, and that no state of the run could feed."""
    return InputError(
        f"detector {name}", expected="states with both branches of guidance, and a network that can be asked again",
        received="none in the whole run",
        do="The pipeline asks its network for one branch only, or feeds it what belongs to one state only: leave the "
        "detector out.",
    )  # fmt: skip
