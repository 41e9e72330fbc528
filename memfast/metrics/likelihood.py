"""FLD: the likelihood of real features under Gaussians centred at generated ones, and its generalization gap."""

from typing import Any, NamedTuple

import numpy as np
import torch

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrices
from memfast.metrics.intervals import Interval, bootstrap_mean

CENTRES = 10_000
EPOCHS = 50
LEARNING_RATE = 0.5
BATCH = 10_000
FIRST_DISTANCE = 1e-3
LOG_VARIANCE_RANGE = (-40.0, 20.0)
ORIGIN_SHRINKAGE = 0.1
CACHED_ENTRIES = 400_000_000
ROWS_AT_ONCE = 1024
ADAM = (0.9, 0.999, 1e-8)


class FeatureLikelihood(NamedTuple):
    """Feature likelihood divergence.

    Attributes:
        fld: ``100 (nll_test - baseline)`` per dimension, lower is better, 0 is as good as training data.
        generalization_gap: ``100 (nll_train - nll_test)`` per dimension; negative means memorization.
        gap_interval: bootstrap interval of the gap, the fitted mixture held fixed.
        nll_train: mean negative log likelihood per dimension of the training set.
        nll_test: of the held-out set.
        baseline: of the held-out set under a mixture at half of the training set, fitted to the other half.
    """

    fld: float
    generalization_gap: float
    gap_interval: Interval
    nll_train: float
    nll_test: float
    baseline: float


def feature_likelihood(
    generated: Any,
    training: Any,
    test: Any,
    *,
    centres: int = CENTRES,
    epochs: int = EPOCHS,
    baseline: float | None = None,
    seed: int = 0,
) -> FeatureLikelihood:
    """Fit a mixture of Gaussians at generated samples to the training set; compare training with held-out likelihood.

    Features are standardized by the held-out set. One log-variance per centre is fitted to the training set by Adam.
    A centre on a training sample shrinks its variance without bound, so copies show as a very negative gap.

    Args:
        generated: ``[m, d]``; at most ``centres`` of them are used, chosen by ``seed``.
        training: ``[n, d]``, n >= 2.
        test: ``[t, d]``, t >= 2, held out.
        centres: the most Gaussians.
        epochs: passes over the training set.
        baseline: nll per dimension to compare with; None fits it.
        seed: of the subset, of the order and of the halves.

    Raises:
        InputError: too few rows, or a held-out set whose features are all constant.

    Source: Jiralerspong et al. 2023.
    """
    names = ("generated", "training", "test")
    generated, training, test = as_matrices(names, (generated, training, test), minimum=2)
    whole_number("centres", centres, least=1)
    whole_number("epochs", epochs, least=1)
    if baseline is not None:
        baseline = finite_number("baseline", baseline)
    varying = (test != test[0]).any(axis=0)
    if not varying.any():
        raise InputError("test", expected="features that vary", received="rows that are all equal")
    # The deviation of equal numbers is seldom 0: their mean is rounded.
    mean, scale = test.mean(axis=0), np.where(varying, test.std(axis=0, ddof=1), 1.0)
    generated, training, test = ((rows - mean) / scale for rows in (generated, training, test))
    generator = np.random.default_rng(whole_number("seed", seed, least=0))
    if len(generated) > centres:
        generated = generated[generator.permutation(len(generated))[:centres]]
    mixture = _fit(generated, training[generator.permutation(len(training))], epochs)
    on_train, on_test = (_nll(mixture, generated, rows) for rows in (training, test))
    if baseline is None:
        shuffled = training[generator.permutation(len(training))]
        half = min(len(generated), len(training) // 2)
        fitted = _fit(shuffled[:half], shuffled[half:], epochs)
        baseline = float(_nll(fitted, shuffled[:half], test).mean())
    low, high = (bootstrap_mean(values, seed=seed) for values in (on_train, on_test))
    gap = 100 * float(on_train.mean() - on_test.mean())
    spread = 100 * np.hypot((low.high - low.low) / 2, (high.high - high.low) / 2)
    return FeatureLikelihood(
        100 * (float(on_test.mean()) - baseline),
        gap,
        Interval(gap - spread, gap + spread),
        float(on_train.mean()),
        float(on_test.mean()),
        baseline,
    )


def _fit(centres: np.ndarray, rows: np.ndarray, epochs: int) -> torch.Tensor:
    """Log-variances ``[m]`` (float64) that fit ``rows``, by Adam with the gradient in closed form."""
    distances = _Distances(rows, centres)
    width = rows.shape[1]
    log_variance = ((distances.smallest() + FIRST_DISTANCE) / width).log()
    origin = torch.zeros(1, dtype=torch.float64)
    from_mean = torch.from_numpy(((1 - ORIGIN_SHRINKAGE) ** 2) * np.square(rows - rows.mean(axis=0)).sum(axis=1))
    state = [torch.zeros(len(centres) + 1, dtype=torch.float64) for _ in range(2)]
    step = 0
    for _ in range(epochs):
        for start in range(0, len(rows), BATCH):
            stop = min(start + BATCH, len(rows))
            gradient = torch.zeros(len(centres) + 1, dtype=torch.float64)
            for row in range(start, stop, ROWS_AT_ONCE):
                last = min(row + ROWS_AT_ONCE, stop)
                gradient += _gradient(distances.rows(row, last), from_mean[row:last], log_variance, origin, width)
            step += 1
            change = _adam(state, gradient / ((stop - start) * width), step)
            log_variance = (log_variance - change[:-1]).clamp_(*LOG_VARIANCE_RANGE)
            origin = origin - change[-1:]
    return log_variance


def _gradient(
    squared: torch.Tensor, from_mean: torch.Tensor, log_variance: torch.Tensor, origin: torch.Tensor, width: int
) -> torch.Tensor:
    """Gradient of the summed negative log likelihood in every log-variance, the origin's last."""
    scaled = torch.cat([squared * (-log_variance).exp(), (from_mean * (-origin).exp())[:, None]], dim=1)
    logs = torch.cat([log_variance + 2 * np.log(len(log_variance)) / width, origin])
    share = torch.softmax(-0.5 * (scaled + width * logs), dim=1)
    return 0.5 * (width * share.sum(dim=0) - (share * scaled).sum(dim=0))


def _adam(state: list[torch.Tensor], gradient: torch.Tensor, step: int) -> torch.Tensor:
    first, second, epsilon = ADAM
    state[0] = first * state[0] + (1 - first) * gradient
    state[1] = second * state[1] + (1 - second) * gradient**2
    return LEARNING_RATE * (state[0] / (1 - first**step)) / ((state[1] / (1 - second**step)).sqrt() + epsilon)


def _nll(log_variance: torch.Tensor, centres: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Negative log likelihood per dimension of each row under the mixture, without the origin's component."""
    distances, width = _Distances(rows, centres), rows.shape[1]
    parts = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        squared = distances.rows(start, min(start + ROWS_AT_ONCE, len(rows)))
        logs = -0.5 * (squared * (-log_variance).exp() + width * (log_variance + np.log(2 * np.pi)))
        parts.append(-(torch.logsumexp(logs, dim=1) - np.log(len(centres))) / width)
    return torch.cat(parts).numpy()


class _Distances:
    """Squared distances between rows and centres, kept where they fit and computed again where they do not."""

    def __init__(self, rows: np.ndarray, centres: np.ndarray) -> None:
        mean = centres.mean(axis=0)
        self.points, self.centres = torch.from_numpy(rows - mean), torch.from_numpy(centres - mean)
        self.norms = (self.centres**2).sum(dim=1)
        self.kept: dict[int, torch.Tensor] | None = {} if len(rows) * len(centres) <= CACHED_ENTRIES else None

    def rows(self, start: int, stop: int) -> torch.Tensor:
        if self.kept is not None and start in self.kept:
            return self.kept[start]
        part = self.points[start:stop]
        scale = (part**2).sum(dim=1)[:, None]
        squared = torch.addmm(self.norms, part, self.centres.T, alpha=-2).add_(scale).clamp_min_(0)
        near = (squared <= 1e-7 * scale).nonzero(as_tuple=True)
        squared[near] = ((part[near[0]] - self.centres[near[1]]) ** 2).sum(dim=1)
        if self.kept is not None:
            self.kept[start] = squared
        return squared

    def smallest(self) -> torch.Tensor:
        lowest = torch.full((len(self.centres),), torch.inf, dtype=torch.float64)
        for start in range(0, len(self.points), ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, len(self.points))
            lowest = torch.minimum(lowest, self.rows(start, stop).amin(dim=0))
        return lowest
