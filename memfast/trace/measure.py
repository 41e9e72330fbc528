"""What is measured of one batch of a sampling run, state by state: statistics, detectors, the first estimates.

The rows of a batch are conditions times seeds, the seeds of one condition next to each other. The statistics follow
from inner products that one op takes while it reads each vector once (``memfast.ops.inner_products``); per state a few
numbers per row are kept, so memory does not grow with the number of steps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch

from memfast.detectors import Detector
from memfast.foundation.errors import InputError
from memfast.objective import ideal_denoiser
from memfast.sampling import Step
from memfast.trace.decomposition import Form, Gram, NormalEquations, cosine, distances_within


class NetworkBranches(Protocol):
    """The network itself, to be asked about other inputs than the run's states, under the run's conditions."""

    @property
    def can_ask(self) -> bool:
        """Whether it can be: not where its arguments belong to one state only."""

    def conditional(self, x: torch.Tensor, step: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The clean and the noise estimate of x with the condition, at that step's level."""

    def difference(self, x: torch.Tensor, step: Any) -> torch.Tensor:
        """Conditional minus unconditional noise estimate of x there, in float32; without signal as detectors have it.

        Raises:
            InputError: the network gives one branch only.
        """


@dataclass
class BatchMeasures:
    """What one batch gave: P conditions, K seeds.

    Attributes:
        statistics: of every state.
        overestimation: float64 ``[P]``, NaN without a target.
        normalised_loss: float64 ``[P]`` (A_c), NaN without a target.
        max_weight: float64 ``[S - 1, P]``, or None without a bank.
        scores: detector -> float64 ``[P, K]``; a detector that no state could feed is left out.
        samples: ``[P * K, ...]``, the finished samples.
        states: ``[S, P * K, ...]`` if they were asked for.
    """

    statistics: "TrajectoryStatistics"
    overestimation: np.ndarray
    normalised_loss: np.ndarray
    max_weight: np.ndarray | None
    scores: dict[str, np.ndarray]
    samples: torch.Tensor
    states: torch.Tensor | None


@dataclass
class BatchObserver:
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
        keep_states: keep every state.
        both_branches: ask for the unconditional estimate at guidance 1, too.
        network: for detectors that need it and for A_c; the subject of the trace sets it.
        tokens: int ``[P]``, for detectors of attention; the subject sets it.
        attention: gives the attention maps of the state that is being watched; the subject sets it.
    """

    names: Sequence[str]
    seeds: Sequence[int]
    targets: torch.Tensor | None = None
    has_target: np.ndarray | None = None
    mean: torch.Tensor | None = None
    final: bool = False
    bank: torch.Tensor | None = None
    detectors: Mapping[str, Detector] = field(default_factory=dict)
    keep_states: bool = False
    both_branches: bool = True
    network: NetworkBranches | None = None
    tokens: Sequence[int] | None = None
    attention: Callable[[], Sequence[torch.Tensor]] | None = None

    def __post_init__(self) -> None:
        targets = None if self.final else self.targets
        self._statistics = TrajectoryStatistics(self.names, self.seeds, targets, self.has_target)
        self._held: list[Step] = []
        self._states: list[torch.Tensor] = []
        self._weights: list[np.ndarray] = []
        missing = np.full(len(self.names), np.nan)
        self._overestimation, self._normalised = missing.copy(), missing.copy()
        self._fed: set[str] = set()

    def __call__(self, step: Step) -> None:
        """Take in one state."""
        if step.index == 0:
            self._begin_detectors()
        # Before the network is asked about other inputs: its last call is still the one for this state.
        attention = self.attention() if self.attention is not None and step.noise_hat is not None else None
        if self.final:
            # The finished sample is the target here: that it is not finite must not be blamed on a target.
            bad = (~torch.isfinite(step.state).flatten(1).all(dim=1)).nonzero()
            if len(bad):
                raise diverged_error(row_name(self.names, self.seeds, int(bad[0])), step.timestep)
            self._held.append(_copy_of(step))
        else:
            self._statistics.step(step)
        if self.keep_states:
            self._states.append(step.state.detach().cpu().clone())
        if step.timestep is None and step.noise_hat is None:
            self._samples = step.state.detach().clone()
            return
        if step.index == 0:
            self._measure_first(step)
        if self.bank is not None and step.sigma > 0:
            bank = self.bank.to(step.state.device)
            found = ideal_denoiser(step.state, bank, step.alpha, step.sigma)
            self._weights.append(found.max_weight.cpu().numpy().reshape(len(self.names), -1).mean(axis=1))
        for name, detector in self.detectors.items():
            if not detector.needs_distances:
                self._feed(name, detector, step, attention)

    def result(self) -> BatchMeasures:
        """Everything that was measured; the run must have ended."""
        if self.final:
            self._statistics = TrajectoryStatistics(self.names, self.seeds, self._samples)
            while self._held:
                self._statistics.step(self._held.pop(0))
        shape = (len(self.names), len(self.seeds))
        scores = {name: self.detectors[name].scores().reshape(shape) for name in self.detectors if name in self._fed}
        return BatchMeasures(
            self._statistics, self._overestimation, self._normalised,
            np.stack(self._weights) if self._weights else None, scores, self._samples,
            torch.stack(self._states) if self._states else None,
        )  # fmt: skip

    def _begin_detectors(self) -> None:
        count = len(self.seeds)
        groups = np.repeat(np.arange(len(self.names)), count)
        tokens = None if self.tokens is None else np.repeat(self.tokens, count)
        for detector in self.detectors.values():
            detector.begin(len(groups), groups=groups, tokens=tokens if detector.needs_attention else None)

    def _measure_first(self, step: Step) -> None:
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
        if self.network is not None and self.network.can_ask:
            error = self._normalised_loss(self.network, step, self.targets)
            self._normalised = np.where(has, error, np.nan)

    def _normalised_loss(self, network: NetworkBranches, step: Step, targets: torch.Tensor) -> np.ndarray:
        """Root mean square error of the clean estimate per value, for the targets under the run's initial noise."""
        count, rows = len(self.seeds), targets.to(step.state).repeat_interleave(len(self.seeds), 0)
        # The run's initial state is normal noise (times sigma where that is above 1).
        noise = step.state.float() / max(1.0, step.sigma)
        noised = step.alpha * rows.float() + step.sigma * noise
        clean, estimate = network.conditional(noised.to(step.state.dtype), step)
        # Where there is signal, the same error follows from the noise estimate.
        error = clean.double() - rows.double() if step.alpha == 0 else estimate.double() - noise.double()
        mean = error.flatten(1).square().mean(1).reshape(-1, count).mean(1).cpu().numpy()
        return np.sqrt(mean) if step.alpha == 0 else np.sqrt(mean) * step.sigma / step.alpha

    def _given(self) -> np.ndarray:
        return np.ones(len(self.names), bool) if self.has_target is None else np.asarray(self.has_target, bool)

    def _feed(self, name: str, detector: Detector, step: Step, attention: Sequence[torch.Tensor] | None) -> None:
        """Hand a state to a detector, unless the state lacks a branch that the detector needs."""
        if detector.needs_branches and (step.conditional is None or step.unconditional is None):
            return
        options: dict[str, Any] = {}
        if detector.needs_network:
            network = self.network
            if network is None or not network.can_ask:
                return
            options["difference"] = lambda x, ask=network: ask.difference(x, step)
        if detector.needs_attention:
            if attention is None:
                return
            options["attention"] = attention
        detector.step(step, **options)
        self._fed.add(name)


def _copy_of(step: Step) -> Step:
    """The step with tensors of its own: a sampler may reuse their memory. Clean branches only where they are needed."""

    def own(values: torch.Tensor | None) -> torch.Tensor | None:
        return None if values is None else values.detach().clone()

    return replace(
        step,
        state=step.state.detach().clone(),
        x0_hat=own(step.x0_hat),
        noise_hat=own(step.noise_hat),
        conditional=own(step.conditional),
        unconditional=own(step.unconditional),
        x0_conditional=own(step.x0_conditional) if step.alpha == 0 else None,
        x0_unconditional=own(step.x0_unconditional) if step.alpha == 0 else None,
    )


BRANCHES = ("guided", "conditional", "unconditional")
# Measures of the state itself, which the finished sample has too.
OF_STATE = ("w_target", "w_initial", "residual")
# Measures that need the training item.
OF_TARGET = (
    *OF_STATE,
    *(f"{kind}_{name}" for kind in ("loss", "target") for name in BRANCHES),
)

# The estimates are float32 and at the noisiest levels hold far fewer digits of the clean sample: 1e-6 is more than
# they know. See ``memfast.trace.decomposition.CANCELLATION``.
CANCELLATION = 1e-9

Rows = dict[str, np.ndarray]


@dataclass(frozen=True)
class StateMeasures:
    """One state of a batch of P conditions times K seeds.

    Attributes:
        timestep: the state's timestep, None for the finished sample.
        alpha: the signal's share at its own level.
        sigma: the noise's share there.
        values: measure -> float64 ``[P, K]``; a measure that cannot be taken is absent, one that a condition has no
            target for is NaN. ``w_target``, ``w_initial``, ``residual`` (see ``decompose``); of each branch b of
            guidance ``loss_b`` (squared error of its estimate of the clean item, summed over the values), ``target_b``
            (cosine of that estimate with the target), ``initial_b`` (cosine of its noise estimate with the initial
            noise); ``gap`` (norm of conditional minus unconditional noise estimate, without signal of the clean ones).
        diversity: float64 ``[P]``, mean distance between the states of different seeds; None for one seed.
        asked: whether the network was asked about it, as it is about every state but the finished sample.
    """

    timestep: int | None
    alpha: float
    sigma: float
    values: Rows
    diversity: np.ndarray | None
    asked: bool = True


class TrajectoryStatistics:
    """Takes the states of one batch in order, from a sampler's callback or another source of step-like objects.

    Args:
        names: the conditions' names, for messages.
        seeds: the seeds' numbers; the batch has ``len(names) * len(seeds)`` rows, a condition's seeds together.
        targets: ``[P, ...]``, one item per condition; ``[P * K, ...]``, one for each row; or None.
        has_target: bool ``[P]``: which of them are real; by default all. The others' measures are NaN.
    """

    def __init__(
        self,
        names: Sequence[str],
        seeds: Sequence[int],
        targets: torch.Tensor | None = None,
        has_target: np.ndarray | None = None,
    ) -> None:
        self.names, self.seeds, self.targets = list(names), list(seeds), targets
        present = np.full(len(self.names), targets is not None)
        self.has_target = present if has_target is None else present & np.asarray(has_target, bool)
        self.states: list[StateMeasures] = []
        self._fixed: dict[str, torch.Tensor] = {}
        self._known: Gram
        self._equations: NormalEquations

    def step(self, step: Any) -> StateMeasures:
        """Measure one state: an object with the attributes of ``memfast.sampling.Step``.

        Raises:
            InputError: a batch of another size, a state that is not finite, a target parallel to the initial noise.
        """
        count = len(self.seeds)
        if len(step.state) != len(self.names) * count:
            raise InputError(
                "step.state", expected=f"{len(self.names)} conditions times {count} seeds",
                received=f"{len(step.state)} rows",
            )  # fmt: skip
        if not self._fixed:
            self._begin(step.state)
        named = {"s": step.state, "e": step.x0_hat, "n": step.noise_hat, "c": step.conditional, "u": step.unconditional}
        if not step.alpha > 0:
            # Here the noise estimates are the state itself: the clean ones are all that the branches say.
            named |= {"C": getattr(step, "x0_conditional", None), "U": getattr(step, "x0_unconditional", None)}
        vectors = {name: tensor.detach() for name, tensor in named.items() if tensor is not None}
        pairs = _pairs(frozenset(vectors), self.targets is not None)
        gram = Gram({**vectors, **self._fixed}, pairs, self._known, cancellation=CANCELLATION)
        self._check_finite(gram, list(vectors), step)
        values = {name: value.reshape(-1, count) for name, value in self._measures(gram, set(vectors), step).items()}
        for name in OF_TARGET:
            if name in values:
                values[name][~self.has_target] = np.nan
        diversity = None
        if count > 1:
            diversity = distances_within(vectors["s"], gram["s", "s"], count, CANCELLATION).mean(axis=1)
        asked = step.x0_hat is not None or step.noise_hat is not None
        measured = StateMeasures(step.timestep, step.alpha, step.sigma, values, diversity, asked)
        self.states.append(measured)
        return measured

    def series(self, name: str) -> np.ndarray | None:
        """A measure over the states, float64 ``[S, P, K]``, NaN in a state that lacks it; None where all do.

        Measures of the network's estimates have one state less: they leave the finished sample out.
        """
        if not any(name in state.values for state in self.states):
            return None
        states = self.states if name in OF_STATE else [state for state in self.states if state.asked]
        missing = np.full((len(self.names), len(self.seeds)), np.nan)
        return np.stack([state.values.get(name, missing) for state in states])

    def _begin(self, initial: torch.Tensor) -> None:
        self._fixed = {"z": initial.detach().clone()}
        pairs = [("z", "z")]
        if self.targets is not None:
            given = torch.from_numpy(np.repeat(self.has_target, len(self.targets) // len(self.names)))
            self._fixed["x"] = self.targets.detach().to(initial.device, copy=True)
            self._fixed["x"][~given] = 0.0
            pairs += [("x", "x"), ("x", "z")]
        self._known = Gram(self._fixed, pairs)
        if self.targets is not None:
            known = self._known
            self._equations = NormalEquations(known["x", "x"], known["z", "z"], known["x", "z"])
            self._check_target(self._equations)

    def _measures(self, gram: Gram, present: set[str], step: Any) -> Rows:
        """Named first, then taken together: the cosines of pairs of vectors, the squared norms of combinations."""
        found: Rows = {}
        cosines: dict[str, tuple[str, str]] = {}
        norms: dict[str, Form] = {}
        estimates: dict[str, Form] = {}
        with_target = self.targets is not None
        if with_target:
            found |= self._least_squares(gram, step)
            if "e" in present:
                norms["loss_guided"], cosines["target_guided"] = {"e": 1.0, "x": -1.0}, ("e", "x")
        if "n" in present:
            cosines["initial_guided"] = ("n", "z")
        for branch, name in (("c", "conditional"), ("u", "unconditional")):
            if branch not in present:
                continue
            cosines[f"initial_{name}"] = (branch, "z")
            # The branch's clean estimate is (state - sigma * noise) / alpha: without signal it must be given.
            clean = branch.upper()
            if with_target and (step.alpha > 0 or clean in present):
                given = {"s": 1.0 / step.alpha, branch: -step.sigma / step.alpha} if step.alpha > 0 else {clean: 1.0}
                estimates[name] = given
                norms[f"loss_{name}"], norms[f"length_{name}"] = {**estimates[name], "x": -1.0}, estimates[name]
        if {"c", "u"} <= present:
            one, other = ("C", "U") if {"C", "U"} <= present else ("c", "u")
            norms["gap"] = {one: 1.0, other: -1.0}
        found |= zip(cosines, gram.cosines(list(cosines.values())), strict=True)
        found |= zip(norms, gram.squared_norms(list(norms.values())), strict=True)
        for name, estimate in estimates.items():
            along = sum(factor * gram[vector, "x"] for vector, factor in estimate.items())
            found[f"target_{name}"] = cosine(np.asarray(along), found.pop(f"length_{name}"), gram["x", "x"])
        if "gap" in found:
            found["gap"] = np.sqrt(found["gap"])
        return found

    def _least_squares(self, gram: Gram, step: Any) -> Rows:
        products = gram["s", "s"], gram["s", "x"], gram["s", "z"]
        weights = w_target, w_initial = self._equations.solve(*products[1:])
        rest, size = self._equations.unexplained(*products, weights)
        small = np.flatnonzero(rest < CANCELLATION * size)
        if len(small):
            rest[small] = gram.from_vectors(small, {"s": 1.0, "x": -w_target[small], "z": -w_initial[small]})
        residual = np.sqrt(rest / np.prod(step.state.shape[1:]))
        return {"w_target": w_target, "w_initial": w_initial, "residual": residual}

    def _check_target(self, equations: NormalEquations) -> None:
        given = np.repeat(self.has_target, len(self.seeds))
        if not np.isfinite(equations.target[given]).all():
            raise InputError("targets", expected="finite values", received="NaN or infinity")
        bad = np.flatnonzero(equations.parallel & given)
        if len(bad):
            raise InputError(
                f"target of {self._row_name(bad[0])}", expected="an item that is not parallel to the initial noise",
                received="a parallel one (or zero)",
                do="The weights of the two cannot be told apart: give None in its place to leave it out.",
            )  # fmt: skip

    def _check_finite(self, gram: Gram, vectors: Sequence[str], step: Any) -> None:
        finite = np.isfinite(gram.table[[gram.places[name, name] for name in vectors]])
        if not finite.all():
            raise diverged_error(self._row_name(int(np.flatnonzero(~finite.all(axis=0))[0])), step.timestep)

    def _row_name(self, row: int) -> str:
        return row_name(self.names, self.seeds, row)


@cache
def _pairs(present: frozenset[str], with_target: bool) -> tuple[tuple[str, str], ...]:
    """The products of a state and the network's estimates there that the measures are made of."""
    pairs = [("s", "s"), ("s", "z")] + ([("s", "x")] if with_target else [])
    if "e" in present:
        pairs += [("e", "e")] + ([("e", "x")] if with_target else [])
    if "n" in present:
        pairs += [("n", "n"), ("n", "z")]
    for branch in sorted({"c", "u"} & present):
        pairs += [(branch, branch), (branch, "z")] + ([(branch, "s"), (branch, "x")] if with_target else [])
    for clean in sorted({"C", "U"} & present):
        pairs += [(clean, clean)] + ([(clean, "x")] if with_target else [])
    return (*pairs, *((a, b) for a, b in (("c", "u"), ("C", "U")) if {a, b} <= present))


def row_name(names: Sequence[str], seeds: Sequence[int], row: int) -> str:
    """Condition and seed of a batch's row, for messages."""
    return f"{names[row // len(seeds)]!r}, seed {seeds[row % len(seeds)]}"


def diverged_error(who: str, timestep: int | None) -> InputError:
    """The error of a run with values that are not finite."""
    where = "the finished sample" if timestep is None else f"timestep {timestep}"
    return InputError(
        f"sample of {who}", expected="finite values", received=f"NaN or infinity at {where}",
        do="The run diverged: lower the guidance, clip its estimates, or run it in float32.",
    )  # fmt: skip
