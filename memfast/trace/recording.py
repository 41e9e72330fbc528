"""A sampling run recorded as it goes: the statistics of every state, and the states themselves only on request."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from memfast.foundation.errors import InputError
from memfast.trace.decomposition import decompose
from memfast.trace.estimates import alignment, overestimation, pairwise_diversity
from memfast.trace.theory import DeviationScores, deviation_scores


@dataclass(frozen=True)
class Recording:
    """One sampling run of B samples over S states, the noisiest first.

    Attributes:
        timesteps: each state's timestep (0-based), None for the finished sample.
        alpha_bar: float64 ``[S]``, each state's own alpha**2.
        w_target: float64 ``[S, B]``, the target's weight; see ``decompose``.
        w_initial: float64 ``[S, B]``, the initial noise's weight.
        residual: float64 ``[S, B]``, root mean square of the rest.
        alignment: float64 ``[S - 1, B]``, cosine of the estimate of the clean item with the target.
        loss: float64 ``[S - 1, B]``, squared error of the estimate, summed over the item's values.
        diversity: float64 ``[S]``, mean distance between different samples; NaN for a single one.
        overestimation: least-squares factor of the first estimates towards the target, or None without a ``mean``.
        samples: ``[B, ...]``, the finished samples.
        states: ``[S, B, ...]`` if they were asked for, else None.
    """

    timesteps: list[int | None] = field(repr=False)
    alpha_bar: np.ndarray = field(repr=False)
    w_target: np.ndarray = field(repr=False)
    w_initial: np.ndarray = field(repr=False)
    residual: np.ndarray = field(repr=False)
    alignment: np.ndarray = field(repr=False)
    loss: np.ndarray = field(repr=False)
    diversity: np.ndarray = field(repr=False)
    overestimation: float | None
    samples: torch.Tensor = field(repr=False)
    states: torch.Tensor | None = field(repr=False)

    @property
    def deviation(self) -> DeviationScores:
        """D1 and D2 of this run, its samples taken as the seeds of one prompt."""
        return deviation_scores(self.w_target, self.w_initial, self.alpha_bar)


def record(
    sampler: Callable[..., torch.Tensor],
    *arguments: Any,
    target: Any,
    mean: Any = None,
    keep_states: bool = False,
    **options: Any,
) -> Recording:
    """Run a sampler of ``memfast.sampling`` and measure every state against a target.

    The statistics are taken while the run goes on: memory does not grow with the number of steps.

    Args:
        sampler: ``memfast.sampling.ddim``, ``ddpm`` or ``heun``.
        arguments: the sampler's own arguments: network, schedule.
        target: ``[...]`` or ``[B, ...]``: the training item that the samples may copy, in front of the network.
        mean: ``[...]``, the mean of clean items; needed for the overestimation factor.
        keep_states: also keep every state.
        options: the sampler's other arguments (shape, count, steps, seed, labels, guidance, ...).

    Raises:
        InputError: a target of another shape, or more samples than one batch.
    """
    if "callback" in options:
        raise InputError("callback", expected="none: record uses it", received="a callback")
    count = options.get("count") or len(options.get("sample_ids", ())) or len(options.get("initial", ()))
    options["batch_size"] = max(int(count), 1)
    goal = torch.as_tensor(target)
    observer = _Observer(goal, mean, keep_states)
    samples = sampler(*arguments, callback=observer, **options)
    return observer.recording(samples)


class _Observer:
    """Receives each state from the sampler."""

    def __init__(self, target: torch.Tensor, mean: Any, keep_states: bool) -> None:
        self.target, self.mean, self.keep_states = target, mean, keep_states
        self.initial: torch.Tensor | None = None
        self.rows: list[tuple[Any, ...]] = []
        self.states: list[torch.Tensor] = []
        self.factor: float | None = None

    def __call__(self, step: Any) -> None:
        state = step.state.detach().cpu()
        if self.initial is None:
            self.initial = state.clone()
        found = decompose(state[None], self.target, self.initial)
        cosine = loss = None
        if step.x0_hat is not None:
            estimate = step.x0_hat.detach().cpu()
            cosine = alignment(estimate, self.target)
            loss = (estimate.double() - self.target.double()).reshape(len(estimate), -1).square().sum(dim=1)
            if not self.rows and self.mean is not None:
                self.factor = overestimation(estimate, self.target, self.mean)
        diversity = pairwise_diversity(state) if len(state) > 1 else float("nan")
        self.rows.append((step.timestep, step.alpha_bar, found, cosine, loss, diversity))
        if self.keep_states:
            self.states.append(state.clone())

    def recording(self, samples: torch.Tensor) -> Recording:
        """Everything that was measured."""
        timesteps, bars, found, cosines, losses, diversity = zip(*self.rows, strict=True)
        return Recording(
            timesteps=list(timesteps),
            alpha_bar=np.array(bars, dtype=np.float64),
            w_target=np.stack([one.w_target[0].numpy() for one in found]),
            w_initial=np.stack([one.w_initial[0].numpy() for one in found]),
            residual=np.stack([one.residual[0].numpy() for one in found]),
            alignment=np.stack([cosine.numpy() for cosine in cosines if cosine is not None]),
            loss=np.stack([loss.numpy() for loss in losses if loss is not None]),
            diversity=np.array(diversity),
            overestimation=self.factor,
            samples=samples,
            states=torch.stack(self.states) if self.states else None,
        )
