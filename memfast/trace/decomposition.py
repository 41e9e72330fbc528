"""How much of a state is the target and how much the initial noise: x_t = w_target * target + w_initial * initial."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from memfast.foundation.errors import InputError
from memfast.trace.gram import CANCELLATION, Gram
from memfast.trace.least_squares import NormalEquations


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

    One pass over the states (``memfast.ops.inner_products``): every sum is taken in float64 and the 2x2 normal
    equations are solved in closed form. The residual follows from the same sums, and is good to 1e-9 of itself: where
    it is so small that they cancel (``memfast.trace.gram.CANCELLATION``), that state alone is read a second time.

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
    base = Gram({"x": goal, "z": noise}, [("x", "x"), ("z", "z"), ("x", "z")])
    for name, own in (("target", base["x", "x"]), ("initial", base["z", "z"])):
        _check_finite(name, own)
    equations = NormalEquations(base["x", "x"], base["z", "z"], base["x", "z"])
    if equations.parallel.any():
        raise InputError(
            f"sample {int(np.flatnonzero(equations.parallel)[0])}",
            expected="a target that is not parallel to the initial noise",
            received="parallel ones (or one of them is zero)", do="The two weights cannot be told apart: leave it out.",
        )  # fmt: skip
    blocks: list[tuple[np.ndarray, ...]] = []
    for first, block in _blocks(states):
        rows = {f"s{k}": _rows(f"states[{first + k}]", state, like=noise) for k, state in enumerate(block)}
        pairs = [(name, other) for name in rows for other in (name, "x", "z")]
        gram = Gram({**rows, "x": goal, "z": noise}, pairs, base)
        # All moments in one go, [S, B] for a pair; rows whose products cancel are measured by themselves.
        squared, with_goal, with_noise = gram.table[: len(pairs)].reshape(len(block), 3, -1).swapaxes(0, 1)
        for k, own in enumerate(squared):
            _check_finite(f"states[{first + k}]", own)
        weights = w_goal, w_noise = equations.solve(with_goal, with_noise)
        rest, size = equations.unexplained(squared, with_goal, with_noise, weights)
        small = rest < CANCELLATION * size
        for k in np.flatnonzero(small.any(axis=1)).tolist():
            chosen = np.flatnonzero(small[k])
            form = {f"s{k}": 1.0, "x": -w_goal[k, chosen], "z": -w_noise[k, chosen]}
            rest[k, chosen] = gram.from_vectors(chosen, form)
        blocks.append((w_goal, w_noise, np.sqrt(rest / noise.shape[1])))
    if not blocks:
        raise InputError("states", expected="at least one moment [S, B, ...]", received="none")
    w_target, w_initial, residual = (
        torch.from_numpy(np.concatenate(parts)).to(noise.device) for parts in zip(*blocks, strict=True)
    )
    return Decomposition(w_target, w_initial, residual)


def _blocks(states: Any) -> Iterator[tuple[int, list[Any]]]:
    """The states, several together where they are in memory anyway, else one by one, with the first one's number."""
    together = len(states) if isinstance(states, torch.Tensor | np.ndarray | list | tuple) else 1
    moments = iter(states)
    for first in itertools.count(0, max(1, together)):
        block = list(itertools.islice(moments, max(1, together)))
        if not block:
            return
        yield first, block


def _rows(name: str, value: Any, like: torch.Tensor | None = None) -> torch.Tensor:
    """A floating matrix ``[B, D]`` on the value's device."""
    rows = torch.as_tensor(value)
    rows = rows.detach() if rows.is_floating_point() else rows.double()
    if like is not None and rows.numel() == like.shape[1]:
        rows = rows.reshape(1, -1).expand(like.shape[0], -1)
    rows = rows.reshape(len(rows), -1) if rows.ndim > 1 else rows[None]
    if like is not None and rows.shape != like.shape:
        raise InputError(
            name, expected=f"{like.shape[0]} items of {like.shape[1]} values, as in initial",
            received=f"shape {list(torch.as_tensor(value).shape)}",
        )  # fmt: skip
    return rows


def _check_finite(name: str, squared: np.ndarray) -> None:
    if not np.isfinite(squared).all():
        raise InputError(name, expected="finite values", received="NaN or infinity")
