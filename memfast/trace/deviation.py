"""Deviation scores: how far a prompt's decomposition departs from the schedule's lines."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from memfast.foundation.errors import InputError
from memfast.trace.theory import Weights, schedule_weights


@dataclass(frozen=True)
class DeviationScores:
    """Signed sums over the steps; larger means more memorized.

    Attributes:
        d1: the target's weight above its line.
        d2: the initial noise's weight below its line.
    """

    d1: float
    d2: float


def deviation_scores(w_target: Any, w_initial: Any, alpha_bar: ArrayLike) -> DeviationScores:
    """D1 = sum_t (E_seed[w_target] - sqrt(a_t)) and D2 = -sum_t (E_seed[w_initial] - sqrt(1 - a_t)).

    Plain signed sums over the states and means over the seeds of one prompt; no bound. 0 where the run follows the
    schedule's lines.

    Args:
        w_target: ``[S, B]`` from ``decompose``, B seeds of one prompt.
        w_initial: the same of the initial noise.
        alpha_bar: ``[S]``, each state's own level (the authors' first script was one state off).

    Source: "How do diffusion models memorize?" (arXiv 2509.25705).

    >>> bars = np.array([0.0, 0.36, 1.0])
    >>> deviation_scores([[0.0], [0.9], [1.0]], [[1.0], [0.5], [0.0]], bars)
    DeviationScores(d1=0.3, d2=0.3)
    """
    return deviation_from(w_target, w_initial, schedule_weights(alpha_bar))


def deviation_from(w_target: Any, w_initial: Any, lines: Weights) -> DeviationScores:
    """The same from any lines, ``[S]`` each: see ``memfast.trace.theory.level_lines``."""
    target, initial = np.asarray(w_target, np.float64), np.asarray(w_initial, np.float64)
    for name, weights in (("w_target", target), ("w_initial", initial)):
        if weights.ndim != 2 or len(weights) != len(lines.w_target) or weights.shape[1] == 0:
            raise InputError(
                name, expected=f"shape [{len(lines.w_target)}, B], one row per state", received=str(weights.shape)
            )
    d1 = float(np.sum(target.mean(axis=1) - lines.w_target))
    d2 = float(-np.sum(initial.mean(axis=1) - lines.w_initial))
    return DeviationScores(round(d1, 12), round(d2, 12))
