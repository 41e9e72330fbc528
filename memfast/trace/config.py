"""What a trace is asked for, and the checks that need no model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from memfast.detectors import DETECTORS, Detector, WatchedRun, detector
from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.sampling import Guidance, choose_guidance

# Sample ids, which the seeds of a run are, have 56 bits.
SEED_LIMIT = 1 << 56
# The diversity of a condition compares every two of its seeds in every state.
MOST_SEEDS = 2_000
TARGETS = ("train", "final")

Features = Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class TraceConfig:
    """What every trace is asked for, whoever draws the samples.

    Args:
        seeds: how many, or their numbers. Every condition starts from the same seeds.
        steps: the sampler's.
        guidance: the scale; 1 is none. Also a rule of ``memfast.sampling`` that changes the scale along the run, or its
            options as ``choose_guidance`` takes them.
        targets: one training item per condition; None in the place of an item leaves that condition's fields empty.
        memorized: True, False or None per condition: what is known; the detectors are judged by it.
        target: ``"train"`` measures against ``targets``, ``"final"`` against each seed's own finished sample (which is
            known only at the end: one batch's states are held in memory until then).
        names: the conditions' names.
        mean: ``[...]``, the mean of clean items, for the overestimation factor; by default the mean of the targets.
        bank: training items ``[N, ...]``, for nearest items and the empirical posterior (N times the work per state).
        features: (name, function of samples ``-> [n, F]``): the similarity of samples to targets is then their cosine;
            by default it is minus the root mean square difference.
        detectors: names of ``memfast.detectors.DETECTORS``, or detectors; None: those that the run can feed.
        sweep: further guidance scales to run, for ``guidance_sweep``.
        rows: conditions times seeds in a batch, at most; None is the subject's own choice.
        keep_states: keep every state (``TraceResult.states``).
        progress: show progress.

    Raises:
        InputError: a value that no trace can use.
    """

    seeds: int | Sequence[int] = 10
    steps: int = 50
    guidance: float | Guidance | Mapping[str, Any] = 7.5
    targets: Any = None
    memorized: Sequence[bool | None] | None = None
    target: str = "train"
    names: Sequence[str] | None = None
    mean: Any = None
    bank: Any = None
    features: tuple[str, Features] | None = None
    detectors: Sequence[str | Detector] | None = None
    sweep: Sequence[float] = ()
    rows: int | None = None
    keep_states: bool = False
    progress: bool = False

    def __post_init__(self) -> None:
        if self.rows is not None:
            whole_number("rows", self.rows, least=1)

    def guidances(self) -> tuple[float | Guidance, list[float]]:
        """The guidance of the main run, and the scales of the sweep."""
        main = choose_guidance(self.guidance)
        return main, [cast(float, choose_guidance(scale)) for scale in self.sweep]


@dataclass(frozen=True, eq=False)
class ConditionSet:
    """The conditions of a trace, P of them.

    Attributes:
        names: one per condition.
        seeds: the seeds' numbers, the same for every condition.
        labels: one per condition, or None.
        memorized: True, False or None per condition.
        targets: ``[P, ...]`` in front of the network, zeros where there is none; None without any.
        has_target: bool ``[P]``.
        target: ``"train"`` or ``"final"``.
        first: the number of the first one in the whole trace.
    """

    names: list[str]
    seeds: list[int]
    labels: list[int] | None
    memorized: list[bool | None]
    targets: torch.Tensor | None
    has_target: np.ndarray
    target: str = TraceConfig.target
    first: int = 0

    def part(self, start: int, count: int) -> "ConditionSet":
        """Some of the conditions."""
        chosen = slice(start, start + count)
        return ConditionSet(
            self.names[chosen], self.seeds, None if self.labels is None else self.labels[chosen],
            self.memorized[chosen], None if self.targets is None else self.targets[chosen], self.has_target[chosen],
            self.target, self.first + start,
        )  # fmt: skip

    @property
    def rows(self) -> int:
        """Samples: conditions times seeds."""
        return len(self.names) * len(self.seeds)

    @property
    def mean_target(self) -> torch.Tensor | None:
        """The mean of the targets, where there are at least two."""
        if self.targets is None or self.has_target.sum() < 2:
            return None
        return self.targets[torch.from_numpy(self.has_target)].mean(0)


def condition_set(
    config: TraceConfig, names: list[str], labels: list[int] | None, encode: Callable[[str, Any], torch.Tensor]
) -> ConditionSet:
    """The conditions with their targets in front of the network.

    Args:
        config: the configuration.
        names: the conditions' names.
        labels: one per condition, or None.
        encode: (what errors call it, an item) -> the item in front of the network.

    Raises:
        InputError: seeds, targets or flags that do not fit the conditions.
    """
    seeds = seed_numbers(config.seeds, len(names))
    found = _items_per_condition(config, names)
    items = [
        None if item is None else encode(f"target of {name!r}", item) for item, name in zip(found, names, strict=True)
    ]
    has = np.array([item is not None for item in items])
    like = next((item for item in items if item is not None), None)
    stacked = None
    if like is not None:
        stacked = torch.stack([torch.zeros_like(like) if item is None else item for item in items])
    return ConditionSet(names, seeds, labels, known_flags(config.memorized, len(names)), stacked, has, config.target)


def _items_per_condition(config: TraceConfig, names: Sequence[str]) -> list[Any]:
    if config.target not in TARGETS:
        raise InputError("target", expected="'train' or 'final'", received=repr(config.target))
    found = [None] * len(names) if config.targets is None and config.target == "final" else config.targets
    count = 0 if found is None else len(found)
    if count < len(names):
        raise InputError(
            f"target of {names[count]!r}", expected="a training item", received="none",
            do="Give it, or None in its place to leave its fields empty, or target='final'.",
        )  # fmt: skip
    if count > len(names):
        raise InputError("targets", expected=f"{len(names)} items, one per condition", received=str(count))
    return list(found)


def choose_detectors(wanted: Sequence[str | Detector] | None, run: WatchedRun) -> dict[str, Detector]:
    """The detectors by name.

    Args:
        wanted: names or detectors; None: those that watch a run unasked, if it can feed them.
        run: what the run can feed.

    Raises:
        InputError: an unknown name, or one that the run cannot feed.
    """
    if wanted is None:
        kinds = [kind for kind in DETECTORS.values() if kind.by_default and kind.why_not(run) is None]
        return {kind.name: detector(kind.name) for kind in kinds}
    found = [one if isinstance(one, Detector) else detector(one) for one in wanted]
    for one in found:
        lacking = one.why_not(run)
        if lacking is not None:
            do = "" if run.branches else "Both branches take labels, in a pipeline also a guidance above 1."
            raise InputError(f"detector {one.name}", expected=f"a trace with {lacking}", received="one without", do=do)
    return {one.name: one for one in found}


def seed_numbers(seeds: Any, conditions: int) -> list[int]:
    """The seeds' numbers from a count, a list, or one equal list per condition.

    Raises:
        InputError: no seed, one twice, more than ``MOST_SEEDS``, or lists that differ between conditions.
    """
    rows = np.asarray(seeds).tolist() if isinstance(seeds, np.ndarray | np.generic | torch.Tensor) else seeds
    if isinstance(rows, int) and not isinstance(rows, bool):
        numbers = list(range(min(rows, MOST_SEEDS + 1)))
    else:
        rows = list(rows) if isinstance(rows, Sequence | range) and not isinstance(rows, str) else [rows]
        if rows and isinstance(rows[0], Sequence) and not isinstance(rows[0], str):
            lists = [list(row) for row in rows]
            if len(lists) != conditions or any(row != lists[0] for row in lists):
                raise InputError(
                    "seeds", expected="the same seeds for every condition",
                    received="lists that differ" if len(lists) == conditions else f"{len(lists)} lists",
                    do="Curves of conditions compare only from the same initial noise: give one list for all.",
                )  # fmt: skip
            rows = lists[0]
        whole = [isinstance(seed, int | np.integer) and not isinstance(seed, bool) for seed in rows]
        numbers = [int(seed) if fits else -1 for seed, fits in zip(rows, whole, strict=True)]
    if len(numbers) > MOST_SEEDS:
        raise InputError(
            "seeds", expected=f"at most {MOST_SEEDS:,}: every two of them are compared",
            received=f"{rows if isinstance(rows, int) else len(numbers):,}",
        )  # fmt: skip
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0 or max(numbers) >= SEED_LIMIT:
        raise InputError("seeds", expected="a count, or different numbers from 0", received=repr(seeds))
    return numbers


def known_flags(memorized: Sequence[bool | None] | None, count: int) -> list[bool | None]:
    """``memorized`` checked: one per condition."""
    given = [None] * count if memorized is None else memorized
    if not all(one is None or (not isinstance(one, str) and one in (0, 1)) for one in given):
        raise InputError("memorized", expected="True, False or None per condition", received=repr(given)[:80])
    found = [None if one is None else bool(one) for one in given]
    if len(found) != count:
        raise InputError("memorized", expected=f"{count} flags, one per condition", received=str(len(found)))
    return found
