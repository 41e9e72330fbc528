"""How much of a state is the target and how much the initial noise: x_t = w_target * target + w_initial * initial."""

from dataclasses import dataclass
from typing import Any

import torch

from memfast.foundation.errors import InputError

# Below this sine between target and initial state the two weights cannot be told apart.
LEAST_SINE = 1e-6


@dataclass(frozen=True)
class Decomposition:
    """The least-squares weights of every state.

    Attributes:
        w_target: float64 ``[S, B]``, the weight of the target; 1 at the end of a run that reached it.
        w_initial: float64 ``[S, B]``, the weight of the initial noise; 1 at the start.
        residual: float64 ``[S, B]``, root mean square of what neither explains, in the states' units.
    """

    w_target: torch.Tensor
    w_initial: torch.Tensor
    residual: torch.Tensor


def decompose(states: Any, target: Any, initial: Any) -> Decomposition:
    """Ordinary least squares of each state on its target and its initial noise, without an intercept.

    One pass over the states; every sum is taken in float64 and the 2x2 normal equations are solved in closed form.

    Args:
        states: ``[S, B, ...]``, the states of B samples at S moments, or an iterable of S arrays ``[B, ...]`` (then no
            more than one moment is held in memory).
        target: ``[B, ...]``: the training item's latent, or the final state where none is known. A single item
            ``[...]`` serves all samples.
        initial: ``[B, ...]``, x_T.

    Raises:
        InputError: shapes that do not fit, values that are not finite, or a target that is parallel to the initial
            noise (the sample is named).

    Source: "How do diffusion models memorize?" (arXiv 2509.25705), the latent decomposition.

    >>> target, noise = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[0.0, 3.0, 1.0]])
    >>> found = decompose(torch.stack([noise, 0.5 * target + 0.25 * noise]), target, noise)
    >>> found.w_target.tolist(), found.w_initial.tolist()
    ([[0.0], [0.5]], [[1.0], [0.25]])
    """
    noise = _rows("initial", initial)
    goal = _rows("target", target, like=noise)
    goal_goal, goal_noise, noise_noise = _dot(goal, goal), _dot(goal, noise), _dot(noise, noise)
    determinant = goal_goal * noise_noise - goal_noise**2
    parallel = determinant <= LEAST_SINE**2 * goal_goal * noise_noise
    if bool(parallel.any()):
        raise InputError(
            f"sample {int(parallel.nonzero()[0])}", expected="a target that is not parallel to the initial noise",
            received="parallel ones (or one of them is zero)", do="The two weights cannot be told apart: leave it out.",
        )  # fmt: skip
    columns = []
    for moment, state in enumerate(states):
        rows = _rows(f"states[{moment}]", state, like=noise)
        state_goal, state_noise = _dot(rows, goal), _dot(rows, noise)
        w_goal = (state_goal * noise_noise - state_noise * goal_noise) / determinant
        w_noise = (state_noise * goal_goal - state_goal * goal_noise) / determinant
        rest = rows - w_goal[:, None] * goal - w_noise[:, None] * noise
        columns.append((w_goal, w_noise, rest.square().mean(dim=1).sqrt()))
    if not columns:
        raise InputError("states", expected="at least one moment [S, B, ...]", received="none")
    w_target, w_initial, residual = (torch.stack(column) for column in zip(*columns, strict=True))
    return Decomposition(w_target, w_initial, residual)


def _rows(name: str, value: Any, like: torch.Tensor | None = None) -> torch.Tensor:
    """A float64 matrix ``[B, D]`` on the CPU or the value's device."""
    rows = torch.as_tensor(value).double()
    if like is not None and rows.numel() == like.shape[1]:
        rows = rows.reshape(1, -1).expand(like.shape[0], -1)
    rows = rows.reshape(len(rows), -1) if rows.ndim > 1 else rows[None]
    if like is not None and rows.shape != like.shape:
        raise InputError(
            name, expected=f"{like.shape[0]} items of {like.shape[1]} values, as in initial",
            received=f"shape {list(torch.as_tensor(value).shape)}",
        )  # fmt: skip
    if not bool(torch.isfinite(rows).all()):
        raise InputError(name, expected="finite values", received="NaN or infinity")
    return rows


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).sum(dim=1)
