"""A trained run of memfast as the subject of a trace."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from memfast.detectors import Detector, WatchedRun
from memfast.foundation.arguments import seed_number
from memfast.foundation.errors import InputError
from memfast.models import Run
from memfast.results.trace import RunSampler, RunSource
from memfast.sampling import Denoiser, Guidance, Sampler, SamplingRequest, branch_difference, choose_sampler
from memfast.sampling.from_run import request_of
from memfast.sampling.steps import Level, level_at
from memfast.trace.config import ConditionSet, Features, TraceConfig, condition_set
from memfast.trace.describing import described_guidance, described_sampler
from memfast.trace.measure import BatchObserver

ROWS = 400
# What target="final" may hold of one batch: five tensors per state.
HELD_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class RunOptions:
    """What a trace of a run is asked for besides ``TraceConfig``.

    Args:
        labels: one condition each; None is one condition without a label.
        seed: the seed of all noise.
        method: a sampler's name, its name and options, or a sampler of ``memfast.sampling``.
        spacing: of the timesteps; by default the sampler's.
        clip: (least, greatest) value of clean estimates, or None.
    """

    labels: Sequence[int] | None = None
    seed: int = 0
    method: str | Mapping[str, Any] | Sampler = "ddim"
    spacing: str | None = None
    clip: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        seed_number("seed", self.seed)


class RunSubject:
    """A run, to be traced with ``memfast.trace.session.trace``.

    Args:
        run: from ``memfast.models.load_run``.
        options: how to sample it.
        steps: the sampler's.

    Raises:
        InputError: labels that the run does not have, or an unknown sampler.
    """

    noun = "conditions"

    def __init__(self, run: Run, options: RunOptions, steps: int) -> None:
        self.run, self.options, self.steps = run, options, steps
        self.device = next(run.model.parameters()).device
        self.method = choose_sampler(options.method)
        self.method.levels(self._request(count=0))
        self.labels = _checked_labels(run, options.labels)

    def conditions(self, config: TraceConfig) -> ConditionSet:
        """The conditions, checked, with their targets in front of the network."""
        labels = self.labels
        names = ["unconditional"] if labels is None else [str(label) for label in labels]
        if config.names is not None:
            count, names = len(names), [str(name) for name in config.names]
            if len(names) != count:
                raise InputError("names", expected=f"{count}, one per condition", received=str(len(names)))
        conditions = condition_set(config, names, labels, lambda what, item: self.encode(what, item)[0])
        guidance, sweep = config.guidances()
        if labels is None and guidance != 1.0:
            raise InputError("guidance", expected="1 without labels", received=str(config.guidance))
        if labels is None and sweep:
            expected = "none without labels: there is nothing to guide"
            raise InputError("sweep", expected=expected, received=str(sweep))
        return conditions

    def encode(self, what: str, items: Any) -> torch.Tensor:
        """``[n, *item_shape]`` float32, of items like the training data or in front of the network, or of one alone."""
        found = torch.as_tensor(np.asarray(items) if not isinstance(items, torch.Tensor) else items)
        own, data = tuple(self.run.item_shape), tuple(self.run.format.data_shape)
        for several in (found[None], found):
            if tuple(several.shape[1:]) == own and found.is_floating_point():
                return several.float()
            same_dtype = str(found.dtype).removeprefix("torch.") == self.run.format.data_dtype
            if tuple(several.shape[1:]) == data and same_dtype:
                return self.run.format.to_network(several)
        raise InputError(
            what, expected=f"{self.run.format.data_dtype} items {data} or floating items {own}",
            received=f"{found.dtype} {list(found.shape)}",
        )  # fmt: skip

    def offers(self, conditions: ConditionSet, guidance: float | Guidance) -> WatchedRun:
        """Both branches, whatever the guidance, where there are labels."""
        return WatchedRun(branches=self.labels is not None)

    def prepare(self, detectors: dict[str, Detector]) -> None:
        """Detectors of a run need nothing more."""

    def rows_at_once(self, config: TraceConfig) -> int:
        """As many as asked for; fewer where the states of a batch are held."""
        rows = ROWS if config.rows is None else config.rows
        if config.target == "final":
            rows = min(rows, HELD_BYTES // (4 * 5 * int(np.prod(self.run.item_shape)) * (config.steps + 1)))
        return rows

    def draw(self, part: ConditionSet, guidance: float | Guidance, observer: BatchObserver, *, in_full: bool) -> None:
        """Draw the samples of some conditions and show every state to ``observer``."""
        labels = None
        if part.labels is not None:
            labels = torch.tensor(part.labels).repeat_interleave(len(part.seeds))
            observer.network = RunBranches(self.run, labels.to(self.device)) if in_full else None
        ids = torch.tensor(part.seeds).repeat(len(part.names))
        request = self._request(
            sample_ids=ids, labels=labels, guidance=guidance, batch_size=len(ids), callback=observer
        )
        self.method.sample(self.run.model, request)

    def sample_features(self, features: tuple[str, Features] | None) -> tuple[str, Features] | None:
        """Features are taken of samples in front of the network as they are."""
        return features

    def source(self) -> RunSource:
        """What is traced, for the result."""
        run = self.run
        return RunSource(
            run.folder.name, "memfast", run.prediction_type, tuple(run.item_shape), run.step, run.weights,
            run.schedule.name,
        )  # fmt: skip

    def sampler(self, config: TraceConfig, conditions: ConditionSet, guidance: float | Guidance) -> RunSampler:
        """How it samples, for the result."""
        clip = self.options.clip
        return RunSampler(
            described_sampler(self.method), config.steps, described_guidance(guidance), tuple(conditions.seeds),
            config.target, self.options.seed, self.options.spacing or self.method.default_spacing,
            None if clip is None else (float(clip[0]), float(clip[1])),
        )  # fmt: skip

    def _request(self, **options: Any) -> SamplingRequest:
        own = {"seed": self.options.seed, "spacing": self.options.spacing, "clip": self.options.clip}
        return request_of(self.run, steps=self.steps, device=self.device, **own, **options)


@dataclass(frozen=True, eq=False)
class RunBranches:
    """A run's network under the labels of a batch, for ``memfast.trace.measure.NetworkBranches``.

    Attributes:
        run: the run.
        labels: one per row.
    """

    run: Run
    labels: torch.Tensor

    @property
    def can_ask(self) -> bool:
        """Always."""
        return True

    def conditional(self, x: torch.Tensor, step: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The clean and the noise estimate of x with the labels, at that step's level."""
        denoiser = Denoiser(
            self.run.model, self.run.prediction_type, 1.0, None, self.run.sigma_data, both_branches=True
        )
        found = denoiser.estimates(x, self._level(step), self.labels)
        return cast(torch.Tensor, found.x0_conditional), cast(torch.Tensor, found.conditional)

    def difference(self, x: torch.Tensor, step: Any) -> torch.Tensor:
        """Conditional minus unconditional estimate there."""
        function = branch_difference(
            self.run.model, self._level(step), self.labels, prediction_type=self.run.prediction_type,
            sigma_data=self.run.sigma_data,
        )  # fmt: skip
        return function(x)

    def _level(self, step: Any) -> Level:
        return level_at(self.run.schedule, step.timestep)


def _checked_labels(run: Run, labels: Any) -> list[int] | None:
    if labels is not None and run.num_classes is None:
        raise InputError("labels", expected="None: the run has no classes", received="labels")
    if labels is None:
        return None
    given, classes = np.asarray(labels).reshape(-1).tolist(), range(int(run.num_classes or 0))
    if not given or not all(one in classes for one in given):
        raise InputError("labels", expected=f"labels from 0 to {len(classes) - 1}", received=str(given))
    return [int(one) for one in given]
