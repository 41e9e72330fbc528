"""What the weights of a decomposition would be without memorization, and how far a prompt's depart from them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from memfast.foundation.errors import InputError


@dataclass(frozen=True)
class Weights:
    """Weights of target and initial noise per state.

    Attributes:
        w_target: float64 ``[S]``.
        w_initial: float64 ``[S]``.
    """

    w_target: np.ndarray
    w_initial: np.ndarray


def schedule_weights(alpha_bar: ArrayLike) -> Weights:
    """The schedule's own lines: sqrt(alpha_bar) of the target and sqrt(1 - alpha_bar) of the noise.

    Args:
        alpha_bar: ``[S]``, each state's own alpha**2 (diffusers' ``alphas_cumprod``), in [0, 1].
    """
    bars = _checked(alpha_bar)
    return Weights(np.sqrt(bars), np.sqrt(1.0 - bars))


def constant_estimate_weights(alpha_bar: ArrayLike, overestimate: float = 1.0) -> Weights:
    """The exact weights of a deterministic DDIM run whose clean estimate is ``overestimate * target`` at every step.

    w_initial = sqrt(1 - a_t) / sqrt(1 - a_T) and w_target = k (sqrt(a_t) - sqrt(a_T) sqrt(1 - a_t) / sqrt(1 - a_T)),
    with a_T the first state's alpha_bar and k the overestimate.

    Args:
        alpha_bar: ``[S]`` in the order of the run: the noisiest state first.
        overestimate: k; 1 is the target itself.
    """
    bars = _checked(alpha_bar)
    w_initial = np.sqrt(1.0 - bars) / np.sqrt(1.0 - bars[0])
    return Weights(overestimate * (np.sqrt(bars) - np.sqrt(bars[0]) * w_initial), w_initial)


def level_lines(alpha: ArrayLike, sigma: ArrayLike, overestimate: float | None = None) -> Weights:
    """The two kinds of lines for any schedule: variance-preserving, variance-exploding or flow.

    Without ``overestimate`` the schedule's own: alpha of the target, sigma of the noise. With it, those of a
    deterministic run whose clean estimate is ``overestimate * target`` at every step. Where sigma starts above 1
    (variance-exploding), the initial state is sigma times normal noise, and its weight is counted in initial states.

    Args:
        alpha: ``[S]``, each state's share of the signal, the noisiest first.
        sigma: ``[S]``, the noise's share; above 0 at the start.
        overestimate: k, or None.

    >>> level_lines([0.0, 0.6, 1.0], [1.0, 0.8, 0.0]).w_initial.tolist()
    [1.0, 0.8, 0.0]
    """
    signal, noise = np.asarray(alpha, np.float64), np.asarray(sigma, np.float64)
    if signal.ndim != 1 or signal.shape != noise.shape or len(signal) == 0 or not noise[0] > 0:
        raise InputError(
            "alpha, sigma", expected="two vectors [S], the noisiest state first, sigma above 0 there",
            received=f"shapes {signal.shape} and {noise.shape}",
        )  # fmt: skip
    if overestimate is None:
        return Weights(signal, noise / max(1.0, noise[0]))
    w_initial = noise / noise[0]
    return Weights(overestimate * (signal - signal[0] * w_initial), w_initial)


def _checked(alpha_bar: ArrayLike) -> np.ndarray:
    bars = np.asarray(alpha_bar, dtype=np.float64)
    if bars.ndim != 1 or len(bars) == 0 or not ((bars >= 0) & (bars <= 1)).all() or bars[0] == 1:
        raise InputError(
            "alpha_bar", expected="values [S] from 0 to 1, the noisiest first", received=np.array2string(bars[:4])
        )
    return bars


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
