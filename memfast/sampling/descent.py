"""Gradient descent on something a sampler starts from, each sample by itself until its own loss is low enough."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from memfast.foundation.arguments import whole_number


@dataclass(frozen=True)
class Optimised:
    """What a descent found.

    Attributes:
        values: ``[B, ...]``, the optimised conditions or starts.
        first_loss: float64 ``[B]``, the loss at the start.
        loss: float64 ``[B]``, the loss of ``values``.
        iterations: int64 ``[B]``, updates that each sample took.
        reached: bool ``[B]``, whether the loss came down to the limit.
    """

    values: torch.Tensor
    first_loss: torch.Tensor
    loss: torch.Tensor
    iterations: torch.Tensor
    reached: torch.Tensor


def descend(
    losses: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    optimizer: Callable[[list[torch.Tensor]], torch.optim.Optimizer],
    *,
    limit: float | None,
    iterations: int,
    frozen: torch.Tensor | None = None,
) -> Optimised:
    """Minimise the loss of every row of ``start``; a row whose loss is at most ``limit`` is left alone from then on.

    Args:
        losses: ``[B, ...]`` -> ``[B]``, each the loss of its row alone.
        start: ``[B, ...]``, where to begin; not changed.
        optimizer: makes an optimizer of one tensor; its updates must be element by element (Adam's are).
        limit: stop a row there; None goes on for all iterations.
        iterations: updates at most; the losses are asked for once more than that.
        frozen: bool, broadcasts against ``start``: elements that stay exactly as they are.
    """
    whole_number("iterations", iterations, least=0)
    value = start.detach().clone().requires_grad_()
    stepper = optimizer([value])
    rows = (-1, *[1] * (value.ndim - 1))
    active = torch.ones(len(value), dtype=torch.bool, device=value.device)
    taken = torch.zeros(len(value), dtype=torch.int64, device=value.device)
    first: torch.Tensor | None = None
    with torch.enable_grad():
        for iteration in range(iterations + 1):
            loss = losses(value)
            first = loss.detach().double() if first is None else first
            if limit is not None:
                active = active & (loss.detach() > limit)
            if iteration == iterations or not active.any():
                break
            (value.grad,) = torch.autograd.grad(loss.sum(), value)
            kept = value.detach().clone()
            stepper.step()
            moved = active.view(rows) if frozen is None else active.view(rows) & ~frozen
            with torch.no_grad():
                value.copy_(torch.where(moved, value, kept))
            taken += active
    last = loss.detach().double()
    reached = torch.zeros_like(active) if limit is None else last <= limit
    return Optimised(value.detach(), first if first is not None else last, last, taken, reached)


def norms(values: torch.Tensor) -> torch.Tensor:
    """L2 norm of each sample over all its values, ``[B]``, differentiable."""
    return torch.linalg.vector_norm(values.flatten(1), dim=1)
