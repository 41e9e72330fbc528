"""What is measured in each state of a sampling run: one pass over the state and the network's estimates there.

The rows of a batch are conditions times seeds, the seeds of one condition next to each other. Everything follows from
inner products that one op takes while it reads each vector once (``memfast.ops.inner_products``); per state a few
numbers per row are kept, so memory does not grow with the number of steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from memfast.foundation.errors import InputError
from memfast.trace.gram import Form, Gram, cosine, distances_within
from memfast.trace.least_squares import NormalEquations

BRANCHES = ("guided", "conditional", "unconditional")
# Measures that need the training item.
OF_TARGET = (
    "w_target",
    "w_initial",
    "residual",
    *(f"{kind}_{name}" for kind in ("loss", "target") for name in BRANCHES),
)

# The estimates are float32 and at the noisiest levels hold far fewer digits of the clean sample: 1e-6 is more than
# they know. See ``memfast.trace.gram.CANCELLATION``.
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
            noise); ``gap`` (norm of conditional minus unconditional noise estimate).
        diversity: float64 ``[P]``, mean distance between the states of different seeds; None for one seed.
    """

    timestep: int | None
    alpha: float
    sigma: float
    values: Rows
    diversity: np.ndarray | None


class Statistics:
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
        measured = StateMeasures(step.timestep, step.alpha, step.sigma, values, diversity)
        self.states.append(measured)
        return measured

    def series(self, name: str) -> np.ndarray | None:
        """A measure over all states that have it, float64 ``[S, P, K]``, or None."""
        found = [state.values[name] for state in self.states if name in state.values]
        return np.stack(found) if found else None

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
            # The branch's clean estimate is (state - sigma * noise) / alpha: at a level without signal it has none.
            if with_target and step.alpha > 0:
                estimates[name] = {"s": 1.0 / step.alpha, branch: -step.sigma / step.alpha}
                norms[f"loss_{name}"], norms[f"length_{name}"] = {**estimates[name], "x": -1.0}, estimates[name]
        if {"c", "u"} <= present:
            norms["gap"] = {"c": 1.0, "u": -1.0}
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
                f"target of {self._who(bad[0])}", expected="an item that is not parallel to the initial noise",
                received="a parallel one (or zero)",
                do="The weights of the two cannot be told apart: give None in its place to leave it out.",
            )  # fmt: skip

    def _check_finite(self, gram: Gram, vectors: Sequence[str], step: Any) -> None:
        finite = np.isfinite(gram.table[[gram.places[name, name] for name in vectors]])
        if not finite.all():
            raise diverged(self._who(int(np.flatnonzero(~finite.all(axis=0))[0])), step.timestep)

    def _who(self, row: int) -> str:
        return whose(self.names, self.seeds, row)


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
    return (*pairs, *([("c", "u")] if {"c", "u"} <= present else []))


def whose(names: Sequence[str], seeds: Sequence[int], row: int) -> str:
    """Condition and seed of a batch's row, for messages."""
    return f"{names[row // len(seeds)]!r}, seed {seeds[row % len(seeds)]}"


def diverged(who: str, timestep: int | None) -> InputError:
    """The error of a run with values that are not finite."""
    where = "the finished sample" if timestep is None else f"timestep {timestep}"
    return InputError(
        f"sample of {who}", expected="finite values", received=f"NaN or infinity at {where}",
        do="The run diverged: lower the guidance, clip its estimates, or run it in float32.",
    )  # fmt: skip
