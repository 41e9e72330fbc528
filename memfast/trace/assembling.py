"""What every trace shares, whoever drew the samples: the batches of conditions become the whole of trace.json."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from memfast.detectors import DETECTORS, Detector, detector
from memfast.foundation import provenance
from memfast.foundation.errors import InputError
from memfast.neighbors import knn
from memfast.trace.conditions import Finished, condition_entries
from memfast.trace.observing import Watched
from memfast.trace.result import TraceResult, correlations, detection, plain
from memfast.trace.theory import level_lines

# Sample ids, which the seeds of a run are, have 56 bits.
SEED_LIMIT = 1 << 56
# The diversity of a condition compares every two of its seeds in every state.
MOST_SEEDS = 2_000
NEGATIVE_RMS = "negative RMS"
BOTH_BRANCHES = "both branches (labels; in a pipeline also a guidance above 1)"
DEFAULT_DETECTORS = ("wen", "wen_first", "jeon", "hintersdorf")

Features = Callable[[Any], Any]


@dataclass(frozen=True)
class Conditions:
    """What is traced.

    Attributes:
        names: one per condition.
        seeds: the seeds' numbers, the same for every condition.
        labels: one per condition, or None.
        memorized: True, False or None per condition.
        targets: ``[P, ...]`` in front of the network, zeros where there is none; None without any.
        has_target: bool ``[P]``.
        target: ``"train"`` or ``"final"``.
    """

    names: list[str]
    seeds: list[int]
    labels: list[int] | None
    memorized: list[bool | None]
    targets: torch.Tensor | None
    has_target: np.ndarray
    target: str = "train"

    def part(self, chosen: slice) -> "Conditions":
        """Some of the conditions."""
        return Conditions(
            self.names[chosen], self.seeds, None if self.labels is None else self.labels[chosen],
            self.memorized[chosen], None if self.targets is None else self.targets[chosen], self.has_target[chosen],
            self.target,
        )  # fmt: skip


@dataclass
class Assembly:
    """Collects the batches of a trace.

    Attributes:
        conditions: all of them.
        bank: ``[N, ...]``, for nearest items, or None.
        features: of finished samples and targets, for a cosine instead of the RMS; with its name.
        detectors: those of the run that look at distances.
    """

    conditions: Conditions
    bank: torch.Tensor | None = None
    features: tuple[str, Features] | None = None
    detectors: dict[str, Detector] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.samples: list[torch.Tensor] = []
        self.states: list[torch.Tensor] = []
        self.levels: list[tuple[int | None, float, float]] = []

    def add(self, watched: Watched, part: Conditions) -> None:
        """One batch."""
        if not self.levels:
            self.levels = [(one.timestep, one.alpha, one.sigma) for one in watched.statistics.states]
        lines = level_lines([level[1] for level in self.levels], [level[2] for level in self.levels])
        finished = self._finished(watched, part)
        for detector_name, found in self.detectors.items():
            if finished.squared_distances is not None:
                rows = finished.squared_distances
                found.begin(rows.shape[0] * rows.shape[1])
                found.distances(rows.reshape(-1, rows.shape[2]))
                watched.scores[detector_name] = found.scores().reshape(rows.shape[:2])
        for place, entry in enumerate(condition_entries(watched, finished, lines)):
            label = None if part.labels is None else int(part.labels[place])
            head = {"name": part.names[place], "label": label, "memorized": part.memorized[place]}
            self.entries.append({**head, **entry, "has_target": bool(part.has_target[place])})
        self.samples.append(watched.samples.cpu())
        if watched.states is not None:
            self.states.append(watched.states)

    def result(
        self, source: dict[str, Any], sampler: dict[str, Any], sweep: list[dict[str, Any]] | None
    ) -> TraceResult:
        """Everything, as plain values."""
        alpha, sigma = (np.array([level[place] for level in self.levels]) for place in (1, 2))
        entries = plain(self.entries)
        content = {
            "kind": "trace",
            "source": source,
            "sampler": {**sampler, "seeds": list(self.conditions.seeds), "target": self.conditions.target},
            "timesteps": [level[0] for level in self.levels],
            "alpha_bar": alpha**2,
            "alpha": alpha,
            "sigma": sigma,
            "theory": {
                "schedule": level_lines(alpha, sigma).__dict__,
                "constant_estimate": level_lines(alpha, sigma, overestimate=1.0).__dict__,
            },
            "conditions": entries,
            "correlations": correlations(entries),
            "detection": detection(entries),
            "guidance_sweep": sweep,
            "provenance": {
                "versions": provenance.versions(), "machine": provenance.machine(), "commit": provenance.commit(),
                "targets": _hash(self.conditions.targets), "bank": _hash(self.bank),
            },
        }  # fmt: skip
        states = torch.cat(self.states, dim=1) if self.states else None
        return TraceResult(plain(content), torch.cat(self.samples), states)

    def _finished(self, watched: Watched, part: Conditions) -> Finished:
        shape = (len(part.names), len(part.seeds))
        samples = watched.samples
        name, similarity = NEGATIVE_RMS, np.full(shape, np.nan)
        if part.targets is not None:
            if self.features is not None:
                name, extract = f"cosine of {self.features[0]}", self.features[1]
                own = _features(extract, samples).reshape(*shape, -1)
                goal = _features(extract, part.targets).reshape(shape[0], 1, -1)
                similarity = torch.nn.functional.cosine_similarity(own, goal, dim=2).numpy()
            else:
                goal = part.targets.to(samples.device).double().flatten(1)
                error = samples.double().reshape(*shape, -1) - goal[:, None]
                similarity = -error.square().mean(dim=2).sqrt().cpu().numpy()
            similarity[~part.has_target] = np.nan
        squared = indices = None
        if self.bank is not None:
            found = knn(samples.float().cpu().flatten(1), self.bank.flatten(1), min(2, len(self.bank)))
            squared = np.asarray(found.squared_distances, np.float64).reshape(*shape, -1)
            indices = np.asarray(found.indices).reshape(*shape, -1)
        return Finished(similarity, name, squared, indices, int(np.prod(samples.shape[1:])))


def choose_detectors(
    wanted: Sequence[str] | None, *, branches: bool, seeds: int, bank: int, attention: bool = False
) -> dict[str, Detector]:
    """The detectors by name; None: those that the run can feed.

    Args:
        wanted: names, or None.
        branches: whether both branches of guidance are known.
        seeds: per condition.
        bank: how many training items there are; 0 without a bank.
        attention: whether attention maps can be read.

    Raises:
        InputError: an unknown name, or one that the run cannot feed.
    """
    if wanted is None:
        chosen = [name for name in DEFAULT_DETECTORS if branches and (name != "hintersdorf" or seeds > 1)]
        chosen += [name for name, kind in DETECTORS.items() if kind.needs_distances and bank >= kind.columns]
        return {name: detector(name) for name in chosen}
    found = {name: detector(name) for name in wanted}
    for name, one in found.items():
        lacking = (
            "a bank of training items" if one.needs_distances and not bank
            else "attention maps" if one.needs_attention and not attention
            else BOTH_BRANCHES if not branches and not one.needs_distances else None
        )  # fmt: skip
        if lacking:
            raise InputError(f"detector {name}", expected=f"a trace with {lacking}", received="one without")
    return found


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


def known_labels(memorized: Sequence[bool | None] | None, count: int) -> list[bool | None]:
    """``memorized`` checked: one per condition."""
    given = [None] * count if memorized is None else memorized
    if not all(one is None or (not isinstance(one, str) and one in (0, 1)) for one in given):
        raise InputError("memorized", expected="True, False or None per condition", received=repr(given)[:80])
    found = [None if one is None else bool(one) for one in given]
    if len(found) != count:
        raise InputError("memorized", expected=f"{count} flags, one per condition", received=str(len(found)))
    return found


def _features(extract: Features, items: torch.Tensor) -> torch.Tensor:
    """float64 ``[n, F]`` on the CPU, wherever the extractor left them, and without its graph."""
    with torch.no_grad():
        found = torch.as_tensor(extract(items)).detach().cpu().double()
    if found.ndim == 0 or len(found) != len(items):
        raise InputError("features", expected=f"one row for each of {len(items)} items", received=str([*found.shape]))
    return found


def _hash(tensor: torch.Tensor | None) -> str | None:
    return None if tensor is None else provenance.content_hash(tensor.detach().float().cpu().numpy())
