"""Truncated Gaussian mixtures, and the normal law with accurate tails."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import ndtr

from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.timesteps.density import ContinuousDensity, Vector, vector_of_numbers


@dataclass(frozen=True)
class GaussianMixture(ContinuousDensity):
    """A mixture of any number of Gaussians over the timesteps, cut to [1/2, T + 1/2] and renormalised as a whole.

    Args:
        means: ``[K]``, in timesteps; they may lie outside 1..T.
        scales: ``[K]``, standard deviations in timesteps, above 0.
        weights: ``[K]``, 0 or more; they need not sum to 1. None: all alike.

    >>> GaussianMixture(means=(100, 800), scales=(30, 60), weights=(1, 3)).mean(1000) > 600
    True
    """

    name: ClassVar[str] = "gaussian_mixture"
    means: Sequence[float]
    scales: Sequence[float]
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        for name, values in (("means", self.means), ("scales", self.scales), ("weights", self.weights)):
            if values is not None:
                vector_of_numbers(name, values)
        count = len(self.means)
        weights = [1.0] * count if self.weights is None else list(self.weights)
        if count == 0 or len(self.scales) != count or len(weights) != count:
            lengths = f"{count}, {len(self.scales)} and {len(weights)}"
            raise InputError(
                "means, scales, weights", expected="one of each per component", received=f"{lengths} values"
            )
        for mean, scale in zip(self.means, self.scales, strict=True):
            finite_number("means", mean)
            finite_number("scales", scale, above=0)
        object.__setattr__(self, "means", tuple(self.means))
        object.__setattr__(self, "scales", tuple(self.scales))
        object.__setattr__(self, "weights", None if self.weights is None else tuple(weights))
        if not sum(finite_number("weights", weight, least=0) for weight in weights) > 0:
            raise InputError("weights", expected="one above 0", received=str(weights))

    def _pdf(self, x: Vector) -> Vector:
        return sum(w * normal_pdf((x - m) / s) / s for w, m, s in self._components())  # type: ignore[return-value]

    def _mass(self, low: Vector, high: Vector) -> Vector:
        return sum(  # type: ignore[return-value]
            w * normal_interval((low - m) / s, (high - m) / s) for w, m, s in self._components()
        )

    def _components(self) -> list[tuple[float, float, float]]:
        weights = np.ones(len(self.means)) if self.weights is None else np.asarray(self.weights, dtype=np.float64)
        shares = weights / weights.sum()
        return [(float(w), float(m), float(s)) for w, m, s in zip(shares, self.means, self.scales, strict=True)]


def normal_pdf(z: Vector) -> Vector:
    """The standard normal density."""
    return np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)


def normal_interval(low: Vector, high: Vector) -> Vector:
    """The standard normal's mass in [low, high]; in the upper tail too without cancellation."""
    flip = low > 0
    return ndtr(np.where(flip, -low, high)) - ndtr(np.where(flip, -high, low))
