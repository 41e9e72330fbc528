"""A density learned from the losses themselves."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.timesteps.density import DiscreteDensity, Grid, Vector, grid_length, normalized


class LossSecondMoment(DiscreteDensity):
    """p(t) proportional to sqrt(mean of the last losses^2 at t), mixed with a little uniform (Nichol and Dhariwal 2021,
    section 3.3; improved-diffusion's ``resample.py``). Uniform until every timestep has its history.

    With it belongs the loss weight ``importance``, so that the expected loss stays the uniform one. The state goes into
    checkpoints; with several processes every one of them feeds the same losses in the same order.

    Args:
        history: how many losses of each timestep are kept.
        uniform_share: the uniform part's share, in [0, 1].
    """

    name: ClassVar[str] = "loss_second_moment"
    changes_while_training: ClassVar[bool] = True
    learns_from_losses: ClassVar[bool] = True

    def __init__(self, history: int = 10, uniform_share: float = 0.001) -> None:
        self.history = whole_number("history", history, least=1)
        self.uniform_share = finite_number("uniform_share", uniform_share, least=0, greatest=1)
        self._losses = np.zeros((0, self.history))
        self._counts = np.zeros(0, dtype=np.int64)

    @property
    def warmed_up(self) -> bool:
        """Whether every timestep has its history."""
        return len(self._counts) > 0 and bool((self._counts >= self.history).all())

    def update(self, T: int, timesteps: Sequence[int] | np.ndarray, losses: Sequence[float] | np.ndarray) -> None:
        """Add losses, unweighted, in the order given.

        Args:
            T: the number of timesteps.
            timesteps: ``[B]``, 0-based.
            losses: ``[B]``, one per timestep.

        Raises:
            InputError: a loss that is not finite; lengths that differ; another T than before.
        """
        rows, values = np.asarray(timesteps, dtype=np.int64), np.asarray(losses, dtype=np.float64)
        if rows.shape != values.shape or rows.ndim != 1:
            raise InputError("losses", expected="one per timestep", received=f"shapes {rows.shape} and {values.shape}")
        if not np.isfinite(values).all():
            raise InputError("losses", expected="finite losses", received=str(values[~np.isfinite(values)][0]))
        if len(self._counts) == 0:
            self._losses, self._counts = np.zeros((T, self.history)), np.zeros(T, dtype=np.int64)
        if len(self._counts) != T:
            raise InputError("T", expected=f"{len(self._counts)} timesteps, as before", received=str(T))
        for row, value in zip(rows, values, strict=True):
            self._losses[row, self._counts[row] % self.history] = value
            self._counts[row] += 1

    def probabilities(self, grid: Grid) -> Vector:
        """The current ones."""
        T = grid_length(grid)
        if not self.warmed_up:
            return np.full(T, 1 / T)
        if len(self._counts) != T:
            raise InputError("T", expected=f"{len(self._counts)} timesteps, as before", received=str(T))
        moments = np.sqrt((self._losses**2).mean(1))
        if not moments.max() > 0:
            return np.full(T, 1 / T)
        return (1 - self.uniform_share) * normalized(moments, self.name) + self.uniform_share / T

    def state_dict(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps: ``losses`` float64 ``[T, history]`` and ``counts`` int64 ``[T]``."""
        return {"losses": self._losses.copy(), "counts": self._counts.copy()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up a checkpoint's state.

        Raises:
            InputError: it was made with another history.
        """
        losses, counts = np.asarray(state["losses"], dtype=np.float64), np.asarray(state["counts"], dtype=np.int64)
        if losses.ndim != 2 or losses.shape != (len(counts), self.history):
            expected = f"losses of shape [{len(counts)}, {self.history}]"
            raise InputError("state", expected=expected, received=str(losses.shape))
        self._losses, self._counts = losses.copy(), counts.copy()

    def to_dict(self) -> dict[str, Any]:
        """The settings; the state is ``state_dict``'s."""
        return {"name": self.name, "history": self.history, "uniform_share": self.uniform_share}

    def __repr__(self) -> str:
        return f"LossSecondMoment(history={self.history}, uniform_share={self.uniform_share})"
