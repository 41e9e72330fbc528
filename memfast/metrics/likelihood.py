"""FLD: the likelihood of real features under Gaussians centred at generated ones, and its generalization gap."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError
from memfast.metrics.arrays import as_matrices
from memfast.metrics.base import INFINITY, Metric, MetricInputs, MetricOutcome, MetricValue
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
        generalization_gap: ``100 (nll_train - nll_test)`` per dimension. The Gaussians' widths are fitted to the
            training set, so an honest generator scores below 0 too, far below where there are few features: read it
            against its floor, see `feature_likelihood`.
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

    The gap shows how much closer the generated samples are to the training set than to held-out data, plus how far the
    fit of the widths itself favours the rows it was fitted to. The second part is there without any copy and grows as
    the number of features falls (-11 for honest Gaussians in 4 dimensions). So the sign alone shows nothing: compute
    the gap of held-out data against held-out data (half of them as ``training``, the other half as ``test``), as
    `memfast.evaluate` does for its floor, and look for a gap clearly below that.

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
    generated, training, test = _standardized(generated, training, test)
    whole_number("centres", centres, least=1)
    whole_number("epochs", epochs, least=1)
    if baseline is not None:
        baseline = finite_number("baseline", baseline)
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


def memorization_scores(generated: Any, training: Any, test: Any, *, epochs: int = EPOCHS, seed: int = 0) -> np.ndarray:
    """How likely each sample's Gaussian makes its best training sample: float64 ``[m]``, higher is more memorized.

    The largest log likelihood of a training row under the Gaussian at the sample, per dimension, with the widths of
    `feature_likelihood`. It ranks samples from the most to the least memorized; it has no threshold.

    Args:
        generated: ``[m, d]``.
        training: ``[n, d]``, n >= 2.
        test: ``[t, d]``, t >= 2: features are standardized by it.
        epochs: passes over the training set.
        seed: of the order of the training set.

    Raises:
        InputError: too few rows, or a held-out set whose features are all constant.

    Source: Jiralerspong et al. 2023 (``sample_memorization_scores`` of the authors' code).
    """
    generated, training, test = _standardized(generated, training, test)
    whole_number("epochs", epochs, least=1)
    generator = np.random.default_rng(whole_number("seed", seed, least=0))
    log_variance = _fit(generated, training[generator.permutation(len(training))], epochs)
    width = training.shape[1]
    squared = _Distances(training, generated).smallest()
    logs = -0.5 * (squared * (-log_variance).exp() + width * (log_variance + np.log(2 * np.pi)))
    return (logs / width).numpy()


@dataclass(frozen=True)
class FeatureLikelihoodDivergence(Metric):
    """`feature_likelihood` of the three sets."""

    name: ClassVar = "fld"
    summary: ClassVar = "feature likelihood divergence and its generalization gap"
    source: ClassVar = "Jiralerspong et al. 2023"
    values: ClassVar = (
        MetricValue("fld", "lower", "higher", -INFINITY, INFINITY),
        MetricValue("generalization_gap", "none", "lower", -INFINITY, INFINITY, "bootstrap of both means"),
    )
    needs: ClassVar = ("test",)
    floored: ClassVar = ("generalization_gap",)
    centres: int = CENTRES
    epochs: int = EPOCHS

    def __post_init__(self) -> None:
        whole_number("centres", self.centres, least=1)
        whole_number("epochs", self.epochs, least=1)

    @property
    def least(self) -> dict[str, int]:
        """Two of each."""
        return {"generated": 2, "training": 2, "test": 2}

    def operations(self, m: int, n: int, t: int, d: int) -> float:
        """Distances, and 50 passes of a fit."""
        return 3 * min(m, self.centres) * (n * (2 * d + 1500) + 2 * t * d)

    def compute(self, inputs: MetricInputs) -> dict[str, MetricOutcome]:
        """With the gap of equally few training rows beside, which is what its floor compares with."""
        options = {"centres": self.centres, "epochs": self.epochs, "seed": inputs.seed}
        found = feature_likelihood(inputs.generated, inputs.training, inputs.test, **options)
        details: dict[str, Any] = {
            "nll_train": found.nll_train, "nll_test": found.nll_test, "baseline": found.baseline,
        }  # fmt: skip
        first, second = inputs.held_out_halves()
        if 2 <= len(first) < len(inputs.training):
            order = np.random.default_rng(inputs.seed).permutation(len(inputs.training))[: len(first)]
            few = inputs.training[np.sort(order)]
            matched = feature_likelihood(inputs.generated, few, second, baseline=0.0, **options)
            details |= {"gap_of_as_few_as_the_floor": matched.generalization_gap, "rows_of_the_floor": len(first)}
        return {
            "fld": MetricOutcome(found.fld, None, details),
            "generalization_gap": MetricOutcome(found.generalization_gap, found.gap_interval, details),
        }

    def floor_inputs(self, inputs: MetricInputs) -> MetricInputs | None:
        """Held-out against held-out: half of the held-out set as training, the other half held out."""
        if inputs.test is None:
            return None
        first, second = inputs.held_out_halves()
        return replace(inputs, training=first, test=second)


def _standardized(generated: Any, training: Any, test: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All three by the mean and the deviation of the held-out set."""
    names = ("generated", "training", "test")
    generated, training, test = as_matrices(names, (generated, training, test), minimum=2)
    varying = (test != test[0]).any(axis=0)
    if not varying.any():
        raise InputError("test", expected="features that vary", received="rows that are all equal")
    with np.errstate(over="ignore", invalid="ignore"):
        # The deviation of equal numbers is seldom 0: their mean is rounded.
        mean, scale = test.mean(axis=0), np.where(varying, test.std(axis=0, ddof=1), 1.0)
        sets = tuple((rows - mean) / np.where(scale > 0, scale, 1.0) for rows in (generated, training, test))
        finite = all(np.isfinite(np.square(rows).sum(axis=1)).all() for rows in sets)
    if not finite or not np.isfinite(scale).all():
        raise InputError("features", expected="magnitudes whose square float64 holds", received="larger ones")
    return sets[0], sets[1], sets[2]


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
