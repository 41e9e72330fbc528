"""What every detector shares: it is fed the states of a sampling run and gives one score per sample."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from memfast.foundation.errors import InputError

Difference = Callable[[Tensor], Tensor]


class StepLike(Protocol):
    """One state of a sampling run, as ``memfast.sampling.Step`` describes it; estimates are of the noise."""

    @property
    def index(self) -> int:
        """0 for the initial noise."""

    @property
    def alpha(self) -> float:
        """The signal's share."""

    @property
    def sigma(self) -> float:
        """The noise's share."""

    @property
    def state(self) -> Tensor:
        """``[B, ...]``, x_t."""

    @property
    def noise_hat(self) -> Tensor | None:
        """``[B, ...]``, the estimate that the sampler goes by; None for the finished sample."""

    @property
    def conditional(self) -> Tensor | None:
        """``[B, ...]``, with the condition."""

    @property
    def unconditional(self) -> Tensor | None:
        """``[B, ...]``, without it."""


@dataclass(frozen=True)
class WatchedRun:
    """What a sampling run can feed to detectors.

    Attributes:
        branches: whether every state has the conditional and the unconditional estimate.
        attention: whether attention maps can be read.
        seeds: samples of each condition.
        training_items: how many training items the finished samples are compared with; 0 for none.
    """

    branches: bool
    attention: bool = False
    seeds: int = 1
    training_items: int = 0


class Detector:
    """Base of the detectors: ``begin``, then ``step`` for every state of the run in order, then ``scores``.

    In all of them a higher score means more memorized; where the source's own quantity falls, its sign is flipped and
    the docstring says so. A score says nothing by itself: thresholds come from prompts known to be harmless, see
    ``memfast.detectors.roc``.

    Attributes:
        name: the key in ``DETECTORS``.
        source: where it is defined.
        needs_network: ``step`` also takes ``difference``: a function of a state that gives the conditional minus the
            unconditional noise estimate at this step's level (without signal as ``branches`` has them), in float32 and
            with forward-mode derivatives.
        needs_attention: ``step`` also takes ``attention``: per cross-attention layer a tensor ``[B, pixels, tokens]``
            of the conditional branch, averaged over heads; and ``begin`` takes ``tokens``.
        needs_distances: instead of steps it is given the distances of finished samples: ``distances``.
        columns: how many distances of each sample it needs.
        needs_branches: its states hold the conditional and the unconditional estimate: a run with guidance.
        least_seeds: how many samples of each condition it compares; 1 where it looks at each sample alone.
        by_default: whether a run that can feed it watches it unasked.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    higher_is_memorized: ClassVar[bool] = True
    needs_network: ClassVar[bool] = False
    needs_attention: ClassVar[bool] = False
    needs_distances: ClassVar[bool] = False
    columns: ClassVar[int] = 0
    needs_branches: ClassVar[bool] = True
    least_seeds: ClassVar[int] = 1
    by_default: ClassVar[bool] = True

    @classmethod
    def why_not(cls, run: "WatchedRun") -> str | None:
        """None where a run can feed it, otherwise what the run lacks, as a noun."""
        if cls.needs_distances and run.training_items < max(1, cls.columns):
            return "a bank of training items" if cls.columns <= 1 else f"a bank of {cls.columns} training items or more"
        if cls.needs_attention and not run.attention:
            return "attention maps"
        if cls.needs_branches and not cls.needs_distances and not run.branches:
            return "both branches of guidance"
        if run.seeds < cls.least_seeds:
            return f"at least {cls.least_seeds} seeds of every condition"
        return None

    def begin(self, count: int, *, groups: Any = None, tokens: Any = None) -> None:
        """A batch starts.

        Args:
            count: its samples B.
            groups: int ``[B]``, equal for samples of one condition (prompt, label); by default all are of one.
            tokens: int ``[B]``, each prompt's tokens with its start and end marks, for attention.
        """
        self.count = count
        self.groups = _whole_numbers("groups", groups, count, default=0)
        self.tokens = None if tokens is None else _whole_numbers("tokens", tokens, count, default=0)
        self._reset()

    def step(
        self, step: StepLike, *, difference: Difference | None = None, attention: Sequence[Tensor] | None = None
    ) -> None:
        """Take in one state; the finished sample, which has no estimates, is passed over."""
        raise NotImplementedError

    def distances(self, squared_distances: Any) -> None:
        """Take in the squared distances ``[B, k]`` of the finished samples to their nearest training items."""
        raise InputError(self.name, expected="states of a run, by step", received="distances")

    def scores(self) -> np.ndarray:
        """float64 ``[B]``, higher is more memorized."""
        raise NotImplementedError

    def _reset(self) -> None:
        """Forget the last batch."""
        raise NotImplementedError


def is_finished(step: StepLike) -> bool:
    """Whether a state is the finished sample, of which the network says nothing."""
    return step.noise_hat is None


def branches(step: StepLike, who: str) -> tuple[Tensor, Tensor]:
    """The conditional and the unconditional noise estimate of a state.

    In a state without signal (alpha = 0: flow models at the start, zero terminal SNR) the noise estimate is the state
    itself, whatever the condition. There it is minus the clean estimates: their difference is what that of the noise
    estimates, divided by alpha / sigma, tends to.

    Raises:
        InputError: one of them is missing.
    """
    if step.conditional is None or step.unconditional is None:
        raise InputError(
            who, expected="both branches of guidance in every state", received="one",
            do="Sample with labels, and with a callback whose attribute both_branches is True.",
        )  # fmt: skip
    clean = clean_estimates(step)
    return (step.conditional, step.unconditional) if clean is None or clean[1] is None else (-clean[0], -clean[1])


def clean_estimates(step: StepLike) -> tuple[Tensor, Tensor | None] | None:
    """The clean estimates of both branches in a state without signal; None in other states."""
    conditional = getattr(step, "x0_conditional", None)
    return None if step.alpha > 0 or conditional is None else (conditional, getattr(step, "x0_unconditional", None))


def norms(values: Tensor) -> np.ndarray:
    """L2 norm of each sample over all its values, float64 ``[B]``."""
    return torch.linalg.vector_norm(values.flatten(1), dim=1, dtype=torch.float64).cpu().numpy()


def nothing_seen(who: str) -> InputError:
    """The error of scores that are asked for before any state was given."""
    return InputError(who, expected="at least one state before its scores are asked for", received="none")


def _whole_numbers(what: str, values: Any, count: int, *, default: int) -> np.ndarray:
    if values is None:
        return np.full(count, default, dtype=np.int64)
    found = np.asarray(values)
    if found.shape != (count,) or found.dtype.kind not in "iu":
        raise InputError(
            what, expected=f"{count} whole numbers", received=f"shape {list(found.shape)} of {found.dtype}"
        )
    return found.astype(np.int64)
