"""What watches one batch of a sampling run: the statistics, the detectors, and what the first state alone tells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from memfast.detectors import Detector
from memfast.foundation.errors import InputError
from memfast.objective import ideal_denoiser
from memfast.trace.statistics import Statistics, diverged, whose


@dataclass(frozen=True)
class Probe:
    """The network itself, to be asked about other inputs than the run's states.

    Attributes:
        conditional: ``(x, step)`` -> noise estimate with the condition at that step's level.
        difference: ``(x, step)`` -> conditional minus unconditional noise estimate there; None without guidance.
    """

    conditional: Callable[[torch.Tensor, Any], torch.Tensor]
    difference: Callable[[torch.Tensor, Any], torch.Tensor] | None = None


@dataclass
class Watched:
    """What one batch gave: P conditions, K seeds.

    Attributes:
        statistics: of every state.
        overestimation: float64 ``[P]``, NaN without a target.
        normalised_loss: float64 ``[P]`` (A_c), NaN without a target.
        max_weight: float64 ``[S - 1, P]``, or None without a bank.
        scores: detector -> float64 ``[P, K]``.
        samples: ``[P * K, ...]``, the finished samples.
        states: ``[S, P * K, ...]`` if they were asked for.
    """

    statistics: Statistics
    overestimation: np.ndarray
    normalised_loss: np.ndarray
    max_weight: np.ndarray | None
    scores: dict[str, np.ndarray]
    samples: torch.Tensor
    states: torch.Tensor | None


@dataclass
class Observer:
    """A callback for one batch: conditions times seeds, the seeds of a condition together.

    Attributes:
        names: the conditions' names.
        seeds: the seeds' numbers.
        targets: ``[P, ...]`` or None.
        has_target: bool ``[P]``.
        mean: ``[...]``, the mean of clean items, for the overestimation factor; None: the factor is not taken.
        final: measure against each row's own finished sample. It is known only at the end: the batch's states and
            estimates are held until then, so memory grows with steps, but only by one batch.
        bank: ``[N, ...]`` clean items for the empirical posterior, or None.
        detectors: name -> a detector.
        probe: the network, for detectors that need it and for A_c.
        tokens: int ``[P]``, for detectors of attention.
        attention: gives the attention maps of the state that is being watched.
        keep_states: keep every state.
    """

    names: Sequence[str]
    seeds: Sequence[int]
    targets: torch.Tensor | None = None
    has_target: np.ndarray | None = None
    mean: torch.Tensor | None = None
    final: bool = False
    bank: torch.Tensor | None = None
    detectors: Mapping[str, Detector] = field(default_factory=dict)
    probe: Probe | None = None
    tokens: Sequence[int] | None = None
    attention: Callable[[], Sequence[torch.Tensor]] | None = None
    keep_states: bool = False
    both_branches: bool = True

    def __post_init__(self) -> None:
        count = len(self.seeds)
        targets = None if self.final else self.targets
        self._statistics = Statistics(self.names, self.seeds, targets, self.has_target)
        self._held: list[Any] = []
        self._states: list[torch.Tensor] = []
        self._weights: list[np.ndarray] = []
        missing = np.full(len(self.names), np.nan)
        self._overestimation, self._normalised = missing.copy(), missing.copy()
        groups = np.repeat(np.arange(len(self.names)), count)
        tokens = None if self.tokens is None else np.repeat(self.tokens, count)
        for detector in self.detectors.values():
            detector.begin(len(groups), groups=groups, tokens=tokens if detector.needs_attention else None)

    def __call__(self, step: Any) -> None:
        """Take in one state."""
        # Before the network is asked about other inputs: its last call is still the one for this state.
        attention = self.attention() if self.attention is not None and step.noise_hat is not None else None
        if self.final:
            # The finished sample is the target here: that it is not finite must not be blamed on a target.
            bad = (~torch.isfinite(step.state).flatten(1).all(dim=1)).nonzero()
            if len(bad):
                raise diverged(whose(self.names, self.seeds, int(bad[0])), step.timestep)
            self._held.append(_copy_of(step))
        else:
            self._statistics.step(step)
        if self.keep_states:
            self._states.append(step.state.detach().cpu().clone())
        if step.timestep is None and step.noise_hat is None:
            self._samples = step.state.detach().clone()
            return
        if step.index == 0:
            self._first(step)
        if self.bank is not None and step.sigma > 0:
            bank = self.bank.to(step.state.device)
            found = ideal_denoiser(step.state, bank, step.alpha, step.sigma)
            self._weights.append(found.max_weight.cpu().numpy().reshape(len(self.names), -1).mean(axis=1))
        self._detect(step, attention)

    def result(self) -> Watched:
        """Everything that was measured; the run must have ended."""
        if self.final:
            self._statistics = Statistics(self.names, self.seeds, self._samples)
            while self._held:
                self._statistics.step(self._held.pop(0))
        shape = (len(self.names), len(self.seeds))
        scores = {
            name: found.scores().reshape(shape) for name, found in self.detectors.items() if not found.needs_distances
        }
        return Watched(
            self._statistics, self._overestimation, self._normalised,
            np.stack(self._weights) if self._weights else None, scores, self._samples,
            torch.stack(self._states) if self._states else None,
        )  # fmt: skip

    def _first(self, step: Any) -> None:
        if self.targets is None:
            return
        count, has = len(self.seeds), self._given()
        targets = self.targets.to(step.state.device).double().flatten(1)
        if self.mean is not None and step.x0_hat is not None:
            centre = self.mean.to(step.state.device).double().flatten()
            direction = targets - centre
            along = step.x0_hat.double().reshape(len(targets), count, -1).mean(1) - centre
            factor = (along * direction).sum(1) / direction.square().sum(1)
            self._overestimation = np.where(has, factor.cpu().numpy(), np.nan)
        if self.probe is not None and step.alpha > 0:
            rows = self.targets.to(step.state).repeat_interleave(count, 0)
            # The run's initial state is normal noise (times sigma where that is above 1).
            noise = step.state.float() / max(1.0, step.sigma)
            noised = step.alpha * rows.float() + step.sigma * noise
            estimate = self.probe.conditional(noised.to(step.state.dtype), step)
            error = (estimate.double() - noise.double()).flatten(1).square().mean(1)
            mean = error.reshape(-1, count).mean(1).cpu().numpy()
            self._normalised = np.where(has, np.sqrt(mean) * step.sigma / step.alpha, np.nan)

    def _given(self) -> np.ndarray:
        return np.ones(len(self.names), bool) if self.has_target is None else np.asarray(self.has_target, bool)

    def _detect(self, step: Any, attention: Sequence[torch.Tensor] | None) -> None:
        for name, detector in self.detectors.items():
            if detector.needs_distances:
                continue
            options: dict[str, Any] = {}
            if detector.needs_network:
                if self.probe is None or self.probe.difference is None:
                    raise InputError(
                        f"detector {name}", expected="a run with a conditional and an unconditional branch",
                        received="one without", do="Leave the detector out.",
                    )  # fmt: skip
                difference = self.probe.difference
                options["difference"] = lambda x, at=step, ask=difference: ask(x, at)
            if detector.needs_attention:
                if attention is None:
                    raise InputError(
                        f"detector {name}", expected="a pipeline whose attention maps can be read", received="none",
                        do="Leave the detector out.",
                    )  # fmt: skip
                options["attention"] = attention
            detector.step(step, **options)


def _copy_of(step: Any) -> Any:
    """The step with tensors of its own: a sampler may reuse their memory."""
    names = ("state", "x0_hat", "noise_hat", "conditional", "unconditional")
    own = {name: None if getattr(step, name) is None else getattr(step, name).detach().clone() for name in names}
    return replace(step, **own)
