"""Measures of the network's estimates along a run: overestimation, alignment, diversity over seeds."""

from typing import Any

import torch

from memfast.foundation.errors import InputError


def overestimation(estimates: Any, target: Any, mean: Any) -> float:
    """How strongly first estimates lean towards the target: argmin_a sum over seeds of |(x0_hat - m) - a (x - m)|^2.

    a = sum <x0_hat - m, x - m> / (n |x - m|^2). About 0 for a prompt that is not memorized, about the guidance scale
    for one that is (the unconditional estimate is near the mean m, the conditional one near the target). No bound.

    Args:
        estimates: ``[B, ...]``, the guided estimates of the clean item at the FIRST state, over seeds.
        target: ``[...]``, the training item x.
        mean: ``[...]``, the mean m of clean items.

    Raises:
        InputError: shapes that do not fit, or a target equal to the mean.

    Source: "How do diffusion models memorize?" (arXiv 2509.25705), overestimation under guidance.

    >>> overestimation([[7.5, 0.0], [6.5, 9.0]], [1.0, 0.0], [0.0, 0.0])
    7.0
    """
    found = torch.as_tensor(estimates).double()
    found = found.reshape(len(found), -1)
    centre = torch.as_tensor(mean).double().reshape(-1)
    direction = torch.as_tensor(target).double().reshape(-1) - centre
    if found.shape[1] != len(direction) or len(found) == 0:
        raise InputError(
            "estimates", expected=f"[B, ...] with {len(direction)} values an item", received=str(tuple(found.shape))
        )
    length = direction.square().sum()
    if length == 0:
        raise InputError("target", expected="an item that differs from the mean", received="the mean itself")
    return float(((found - centre) @ direction).mean() / length)


def alignment(predictions: Any, reference: Any) -> torch.Tensor:
    """Cosine of each item with its reference over all values, float64 ``[B]`` in [-1, 1]; 1 is the same direction.

    Args:
        predictions: ``[B, ...]``: noise predictions, or estimates of the clean item.
        reference: ``[B, ...]`` or ``[...]``: x_T, the true noise, or the target.

    Raises:
        InputError: shapes that do not fit.
    """
    rows = torch.as_tensor(predictions).double()
    rows = rows.reshape(len(rows), -1)
    other = torch.as_tensor(reference).double()
    other = other.reshape(1, -1) if other.numel() == rows.shape[1] else other.reshape(len(other), -1)
    if other.shape[1] != rows.shape[1] or len(other) not in (1, len(rows)):
        raise InputError("reference", expected=f"shape {list(rows.shape)} or one item", received=str(list(other.shape)))
    return torch.nn.functional.cosine_similarity(rows, other, dim=1)


def pairwise_diversity(states: Any) -> float:
    """Mean distance between the states of different seeds of one prompt, sqrt(sum of squares), at least 0.

    The pairs of a seed with itself are left out (they would pull the mean to 0). Small means that the trajectories have
    collapsed onto one another.

    Args:
        states: ``[B, ...]``, B seeds at one step, B at least 2.

    >>> pairwise_diversity([[0.0, 0.0], [3.0, 4.0]])
    5.0
    """
    rows = torch.as_tensor(states).double()
    if len(rows) < 2:
        raise InputError("states", expected="at least two seeds", received=str(len(rows)))
    return float(torch.nn.functional.pdist(rows.reshape(len(rows), -1)).mean())
